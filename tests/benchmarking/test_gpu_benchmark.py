"""`benchmarks.gpu`: parts that fail, hang or crash are recorded and the rest goes on; and each part, without a GPU."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baco_gpu.graph.bipartite import BipartiteGraph
from benchmarks import gpu
from benchmarks.device_graphs import planted
from benchmarks.gpu_parts import Options, Part, parts_of
from cuda_host.device_arrays import DeviceModule
from cuda_host.host import on_kernels
from tiers import full

ROOT = Path(__file__).parents[2]

# As the process of a part: it says what it has found in lines of JSON.
PROCESS = """
import json, os, signal, sys, time
name, rows = sys.argv[-3], sys.argv[-1]
if name != "mute":
    with open(rows, "w") as file:
        print(json.dumps({"case": "first", "seconds": 0.5, "edges": 7}), file=file)
if name == "fails":
    raise ValueError("what went wrong")
if name == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if name == "hangs":
    time.sleep(600)
if name == "lacks":
    print("it needs a package: pip install it", file=sys.stderr)
    sys.exit(3)
if name == "mute":
    sys.exit(1)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    script = tmp_path / "part.py"
    script.write_text(PROCESS)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, str(script)])


def part(name, seconds=300.0):
    return Part(name, seconds, lambda options: iter(()))


@pytest.mark.usefixtures("process")
@pytest.mark.heavy("starts processes")
def test_a_part_that_fails_is_recorded_by_name_and_the_rest_goes_on(tmp_path, capsys):
    names = ("fails", "crashes", "lacks", "mute", "fine")
    records = gpu.run_all([*map(part, names), part("hangs", 2.0)], 60.0, tmp_path / "found")
    told = [(record["part"], record["status"], record["cause"]) for record in records]
    assert told == [
        ("fails", "failed", "ValueError: what went wrong"),
        ("crashes", "failed", "said nothing (signal 11)"),
        ("lacks", "left out", "it needs a package: pip install it"),
        ("mute", "failed", "said nothing"),
        ("fine", "ran", None),
        ("hangs", "cut off", "not done within 2 s"),
    ]
    first = [{"case": "first", "seconds": 0.5, "edges": 7}]
    assert [record["rows"] for record in records[:5]] == [first, first, first, [], first]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*names, "hangs"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["parts"] == records
    assert found["about"]["date"]
    with (tmp_path / "found.csv").open(newline="") as file:
        numbers = list(csv.DictReader(file))
    assert {(row["part"], row["quantity"], row["value"]) for row in numbers} >= {
        ("fails", "edges", "7"),
        ("fine", "seconds", "0.5"),
        ("mute", "cause", "said nothing"),
    }
    assert (tmp_path / "found.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("process")
def test_what_there_is_no_time_for_is_told(tmp_path):
    (record,) = gpu.run_all([part("fine")], 0.1, tmp_path / "found")
    assert (record["status"], record["rows"]) == ("no time left", [])


def test_all_parts_fit_into_the_minutes_of_a_session():
    parts = parts_of(Options("cuda", "cuda", (10**6, 10**7, 10**8, 10**9), 1.0, 0))
    names = [each.name for each in parts]
    assert [name for name in names if name.startswith("solve")] == [f"solve-1e{power}" for power in range(6, 10)]
    assert len(set(names)) == len(names)
    assert all(each.seconds <= 150 for each in parts), "one that hangs would leave the rest no time"
    assert (names[0], names[-1]) == ("device", "solve-1e9"), "what is sure to end comes first"


def test_unknown_parts_are_refused_with_those_that_there_are():
    command = [sys.executable, "-m", "benchmarks.gpu", "--parts", "solve", "lookups"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "parts must be among device, solve-1e6, " in done.stderr
    assert done.stderr.endswith("got solve\n")


@pytest.mark.parametrize("pairs", [20, 3000])
def test_a_graph_drawn_on_a_device_is_that_of_the_cpu(pairs):
    graph = planted(np, pairs, seed=3)
    there = planted(DeviceModule(), pairs, seed=3)
    assert graph.checksum() == there.checksum() != planted(np, pairs, seed=4).checksum()
    edges = graph.to_scipy().tocoo()
    again = BipartiteGraph.from_edges(edges.row, edges.col, num_users=graph.num_users, num_items=graph.num_items)
    assert again.checksum() == graph.checksum()
    assert graph.num_users + graph.num_items == max(pairs // 14, 6)
    assert graph.num_edges <= pairs
    assert pairs < 100 or graph.num_edges > 0.8 * pairs


@on_kernels
def test_every_part_runs_where_kernels_are_built_for_the_cpu(tmp_path):
    """The very module, on a machine whose one GPU is none, at sizes that say nothing about speed."""
    parts = full([], ["--parts", "device", "solve-5e3", "lookups", "cugraph"])
    command = [sys.executable, "-m", "cuda_host.stand_in", "benchmarks.gpu", "--backend", "cuda", "--device", "cpu"]
    sizes = ["--edges", "5e3", "--scale", "1e-3", "--patience", "30", "--minutes", "60"]
    done = subprocess.run(
        [*command, *sizes, *parts, "--out", str(tmp_path / "gpu")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {record["part"]: record for record in json.loads((tmp_path / "gpu.json").read_text())["parts"]}
    assert {name: record["cause"] for name, record in found.items() if record["status"] != "ran"} == {
        "cugraph": "to_pylibcugraph needs pylibcugraph: pip install 'baco_gpu[cugraph13]' (or [cugraph12])"
    }
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["case"]: row for row in found["solve-5e3"]["rows"]}
    assert rows["full"]["seconds_merge"] > 0
    assert rows["full"]["planned_gib"] > 0
    assert rows["sweeps"]["times_the_floor"] == pytest.approx(1 / rows["sweeps"]["share_of_copy"])
    if "agreement" in found:
        assert [row["the_same"] for row in found["agreement"]["rows"]] == [True, True]
