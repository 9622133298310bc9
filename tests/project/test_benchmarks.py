"""Benchmarks run, at sizes that say nothing about speed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from baco_gpu.clustering.solve.sweeps import NUM_BLOCKS
from tiers import full

pytestmark = pytest.mark.heavy("runs commands")

ROOT = Path(__file__).parents[2]


def rows_of(tmp_path, benchmark, *arguments):
    out = tmp_path / "rows.csv"
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_codebook(tmp_path):
    rows = rows_of(tmp_path, "codebook", "--ids", "400", "--batch", "64", "100", "--dim", "8", "--repeats", "2")
    assert len(rows) == 4 * 2 * 3
    step = {row["candidate"]: row for row in rows if (row["batch"], row["phase"]) == ("64", "step")}
    # Ids, two rows a codebook lookup, the gradient, and Adam's passes, in bytes.
    ids, row, table = 64 * (8 + 8), 8 * 4, 100 * 8 * 4
    least = ids + row * (64 + 100) + ids + row * 64 + table + 7 * table
    assert float(step["codebook and secondary"]["least_megabytes"]) == round(least / 1e6, 2)
    assert step["nn.Embedding"]["rows"] == "400"
    assert all(float(row["p20"]) <= float(row["microseconds"]) <= float(row["p80"]) for row in rows)


def test_memory(tmp_path):
    some = ["nn.Embedding, Adam", "low precision, 8 bits"]
    chosen = full([], ["--candidates", *some])
    rows = rows_of(tmp_path, "memory", "--ids", "4000", "--dim", "8", "--batch", "64", "--repeats", "3", *chosen)
    by_name = {row["candidate"]: row for row in rows}
    assert set(by_name) >= {*some, *full(["nn.Embedding, SparseAdam"], [])}
    # Rows of 8 bits are read twice and written, and their gradient written and read.
    assert float(by_name["low precision, 8 bits"]["least_megabytes_a_step"]) == round(64 * 8 * (8 + 3) / 1e6, 2)
    assert all(float(row["p20"]) <= float(row["milliseconds"]) <= float(row["p80"]) for row in rows)
    assert all(float(row["megabytes"]) >= 0 for row in rows)


def test_encoding(tmp_path):
    clicks = tmp_path / "clicks.csv"
    clicks.write_text(
        "user,item\n" + "".join(f"{user},{user * step % 83}\n" for user in range(120) for step in range(1, 9))
    )
    some = ["--budgets", "0.3", "--dim", "16", "--epochs", "2", "--candidates", "product codes", "trellis codes"]
    full_table, *rows = rows_of(tmp_path, "encoding", str(clicks), *some, "--tables", str(tmp_path / "kept.npz"))
    assert [row["codes"] for row in rows] == ["product codes", "trellis codes"]
    assert float(full_table["share"]) == 1
    assert all(float(row["share"]) <= 0.3 and 0 < float(row["error_users"]) < 1 for row in rows)


def test_ranking(tmp_path):
    clicks = tmp_path / "clicks.csv"
    pairs = ((user, (7 * user + step * step) % 400) for user in range(300) for step in range(1, 13))
    clicks.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    rows = [row for row in rows_of(tmp_path, "ranking", str(clicks), "--repeats", "2") if row["way"] == "ours"]
    assert [row["from"] for row in rows] == ["floats", "floats, recall", "codes"]
    assert rows[0]["overlap"] == "1.0000"
    assert 0.3 < float(rows[2]["overlap"]) < 1


def test_many_tables(tmp_path):
    product = "baco, product codes alone"
    ways = ["full", *full(["baco"], []), product, "hashing", "qr", "narrow"]
    rows = rows_of(tmp_path, "many_tables", "--scale", "1e-3", "--events", "4000", "--budget", "0.3", "--ways", *ways)
    assert [row["way"] for row in rows] == ways
    assert all(float(row["share"]) <= 0.3 for row in rows if row["way"] != "full")
    assert all(0 < float(row["auc"]) < 1 for row in rows)


def fingerprints(*arguments):
    command = [sys.executable, "-m", "benchmarks.fingerprints", "--only", "modules", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    file = tmp_path_factory.mktemp("fingerprints") / "facts.json"
    assert fingerprints("--out", file).returncode == 0
    return file.read_text()


def test_fingerprints_repeat_and_those_that_differ_are_listed(tmp_path, recorded):
    file, name, known = tmp_path / "facts.json", "modules/mixed/file", json.loads(recorded)
    facts = known["on_this_machine"]
    facts["modules/gone/arrays"], is_now, facts[name] = "0", facts[name], "1"
    file.write_text(json.dumps(known))
    checked = fingerprints("--check", file)
    assert checked.stdout.splitlines() == ["modules/gone/arrays: was 0, is None", f"{name}: was 1, is {is_now}"]
    assert checked.returncode == 1


def test_fingerprints_of_floats_are_compared_on_the_same_machine_alone(tmp_path, recorded):
    file, known = tmp_path / "facts.json", json.loads(recorded)
    known["about"]["cpu"], known["on_this_machine"]["modules/mixed/file"] = "another", "1"
    file.write_text(json.dumps(known))
    checked = fingerprints("--check", file)
    assert checked.returncode == 0
    assert "left out: training and modules, recorded with cpu another" in checked.stderr


@pytest.mark.nightly("starts processes for a benchmark")
def test_distributed(tmp_path):
    alone, together = rows_of(tmp_path, "distributed", "--edges", "2e4", "--ranks", "2")
    assert alone["labels"] == together["labels"]
    with (tmp_path / "rows-stages.csv").open(newline="") as file:
        stages = list(csv.DictReader(file))
    sweeps = [row for row in stages if row["stage"] == "sweep"]
    # From the other one eight bytes a node that moved, half of them on the mean, and three numbers a block of a side.
    assert all(int(row["bytes_a_rank"]) == 4 * int(row["moved"]) + 24 * 2 * NUM_BLOCKS for row in sweeps)
    assert float(together["megabytes_planned"]) > 0
    command = [sys.executable, "-m", "benchmarks.distributed_model"]
    command += [f"--{which}={tmp_path / 'rows.csv'}" for which in ("counted", "worked")]
    printed = subprocess.run([*command, "--ranks", "2"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed.count("GPUs") == 6


@pytest.mark.nightly("starts processes for a benchmark")
def test_reading(tmp_path):
    alone, together = rows_of(tmp_path, "reading", "--rows", "3e4", "--ranks", "2")
    assert alone["checksum"] == together["checksum"]
    assert int(together["most_edges_a_rank"]) < int(alone["edges"])
