"""`baco bench`: what its rows say adds up, and what it refuses. Nothing here says how fast anything is."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from baco_gpu import machine
from baco_gpu.benchmarking import solving
from baco_gpu.benchmarking.meter import CudaMeter, HostMeter
from baco_gpu.benchmarking.solving import PHASES, Solve, measure_solver, meter_of, run_solver, summarize
from baco_gpu.clustering.backends import get_backend
from baco_gpu.errors import BackendUnavailableError, InputError
from cuda_host.host import host_backend, on_kernels
from graphs import random_graph

pytestmark = pytest.mark.heavy("runs commands")

ROOT = Path(__file__).parents[2]
SMALL_COPY = 1 << 16


@pytest.fixture(autouse=True)
def small_copies(monkeypatch):
    monkeypatch.setattr(solving, "meter_of", lambda backend: HostMeter(2, SMALL_COPY))


def test_rows_add_up():
    said = []
    rows = measure_solver([10_000, 12_000], repeats=2, progress=lambda *words: said.append(words))
    assert [(row["edges"], row["solver"]) for row in rows] == [
        (edges, solver) for edges in (10_000, 12_000) for solver in ("sweeps", "full")
    ]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    for row in rows:
        assert (row["backend"], row["repeats"], row["users"], row["items"]) == (
            *("cpu", 2),
            *(row["edges"] // 14 * 2 // 3, row["edges"] // 14 // 3),
        )
        assert row["seconds_p20"] <= row["seconds"] <= row["seconds_p80"]
        assert row["edges_a_second"] == row["edges"] / row["seconds"]
        assert row["bytes_of_visits"] == 2 * row["edges"] * row["sweeps"] * 8
        assert row["floor_seconds"] == row["bytes_of_visits"] / row["copy_bytes_a_second"]
        assert row["peak_gib"] is None or row["peak_gib"] > 0
        assert row["streamed"] is False
        assert (row["seconds_merge"] is None) == (row["seconds_secondary"] is None) == (row["solver"] == "sweeps")
    sweeps, full = rows[:2]
    assert 1 <= sweeps["sweeps"] <= 5  # fewer where no node moves any more
    assert full["rows"] in (round(0.25 * (full["users"] + full["items"])) - k for k in (0, 1))
    assert ("12,000 edges, full", 3, 3, "") in said


def test_a_row_of_known_runs():
    graph = random_graph(30, 20, 200, seed=0)
    edges = graph.num_edges
    seconds = [{"load": 9.0, "sweep": s, "refine": 1.0, "merge": 2.0} for s in (1.0, 3.0, 2.0)]
    runs = [Solve(each, sweeps=4, rows=12, streamed=True) for each in seconds]
    row = summarize(graph, runs, bandwidth=1000.0, peak=1 << 29)
    assert (row["seconds"], row["seconds_p20"], row["seconds_p80"]) == (5.0, pytest.approx(4.4), pytest.approx(5.6))
    assert [row[f"seconds_{phase}"] for phase in PHASES] == [9.0, 2.0, 2.0, 1.0, None]
    assert row["edges_a_second"] == edges / 5
    assert row["edge_visits_a_second"] == 2 * edges * 4 / 3
    assert row["share_of_copy"] == pytest.approx(2 * edges * 4 * 8 / 3 / 1000)
    assert row["peak_gib"] == 0.5
    assert row["streamed"] is True


@on_kernels
def test_the_kernels_are_measured_in_the_same_way():
    graph = random_graph(60, 40, 500, seed=1)
    found = [run_solver(graph, "full", backend, HostMeter(), 3) for backend in (get_backend("cpu"), host_backend())]
    assert found[0].rows == found[1].rows
    assert found[0].sweeps == found[1].sweeps
    assert found[0].seconds.keys() == found[1].seconds.keys()


def test_the_peak_of_the_process_starts_anew():
    meter = HostMeter()
    if meter.peak_bytes() is None:
        pytest.skip("needs /proc")
    block = np.ones(1 << 23)
    with_block = meter.peak_bytes()
    assert with_block >= block.nbytes
    del block
    meter.forget_peak()
    assert meter.peak_bytes() <= with_block


def test_a_system_without_proc_has_no_peak(tmp_path, monkeypatch):
    monkeypatch.setattr("baco_gpu.benchmarking.meter._PROCESS", tmp_path / "nowhere")
    HostMeter().forget_peak()
    assert HostMeter().peak_bytes() is None


class FakeCupy:
    """As much of CuPy as a meter asks for, over NumPy; counts how often it is waited for."""

    ones, empty_like, copyto = staticmethod(np.ones), staticmethod(np.empty_like), staticmethod(np.copyto)

    def __init__(self):
        self.waits = 0
        self.held = 5 << 20
        self.cuda = SimpleNamespace(
            get_current_stream=lambda: SimpleNamespace(synchronize=self._wait),
            Device=lambda: SimpleNamespace(id=3),
            get_allocator=lambda: None,
            runtime=SimpleNamespace(getDeviceProperties=lambda device: {"name": f"GPU {device}".encode()}),
        )

    def _wait(self):
        self.waits += 1

    def get_default_memory_pool(self):
        return SimpleNamespace(total_bytes=lambda: self.held, free_all_blocks=self._free)

    def _free(self):
        self.held = 0


def test_a_device_is_waited_for_and_its_pool_is_the_peak():
    cupy = FakeCupy()
    meter = meter_of(SimpleNamespace(xp=cupy))
    assert isinstance(meter, CudaMeter)
    assert meter.device == "GPU 3"
    meter.copy_bytes = SMALL_COPY
    assert meter.copy_bandwidth() > 0
    assert cupy.waits == 6
    assert meter.peak_bytes() == 5 << 20
    meter.forget_peak()
    assert meter.peak_bytes() == 0


def test_the_cpu_is_measured_with_the_threads_that_the_solver_has():
    meter = meter_of(get_backend("cpu"))
    assert meter.device.endswith(f"({meter.threads} threads)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [999]}, "edges must be an integer from 10000 to 10000000000, got 999"),
        ({"edges": []}, "edges must name at least one, got none"),
        ({"solvers": []}, "solvers must name at least one, got none"),
        ({"solvers": ["sweep"]}, "solver must be one of 'sweeps', 'full', got 'sweep'"),
        ({"repeats": 0}, "repeats must be an integer at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"backend": "gpu"}, "backend must be one of"),
    ],
)
def test_mistakes_are_named_before_any_work(arguments, message):
    def progress(*words):
        raise AssertionError("work began")

    with pytest.raises(InputError, match=message):
        measure_solver(**{"edges": [10_000], **arguments}, progress=progress)


def test_a_missing_device_is_no_reason_to_measure_another(monkeypatch):
    monkeypatch.setattr("baco_gpu.clustering.backends.cuda_backend.cuda_obstacle", lambda: "no device")
    with pytest.raises(BackendUnavailableError, match="backend='cuda' is not available: no device"):
        measure_solver([10_000], backend="cuda")


def test_bench_writes_what_it_prints(baco, tmp_path):
    out = tmp_path / "bench.csv"
    code, stdout, stderr = baco("bench", "--edges", "1e4", "--repeats", 1, "--out", out, "--json")
    assert (code, stderr) == (0, "")
    rows = json.loads(stdout)["rows"]
    with out.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["solver"] for row in written] == [row["solver"] for row in rows] == ["sweeps", "full"]
    assert written[0].keys() == rows[0].keys()
    assert float(written[1]["seconds"]) == pytest.approx(rows[1]["seconds"], rel=1e-5)
    assert written[0]["seconds_merge"] == ""
    assert {"device", "date", "version", "commit", "peak_gib"} <= rows[0].keys()
    assert (tmp_path / "bench.settings.yml").exists()


def test_bench_prints_a_table(baco, tmp_path):
    out = tmp_path / "bench.csv"
    code, stdout, stderr = baco("bench", "--edges", "10000", "--solver", "full", "--repeats", 1, "--out", out)
    assert code == 0
    assert "share of copy" in stdout
    assert "10,000" in stdout
    assert f"written: {out}" in stdout
    assert "10,000 edges, full 2/2" in stderr


@pytest.mark.parametrize("words", ["many", "1e4,1.5", "nan", "inf"])
def test_sizes_that_are_none_are_named(baco, words):
    code, stdout, stderr = baco("bench", "--edges", words)
    assert (code, stdout) == (2, "")
    assert f"edges must be whole numbers such as 1e6, comma-separated, got '{words.split(',')[-1]}'" in stderr


def test_an_output_that_cannot_be_written_is_named_before_any_work(baco, tmp_path):
    code, stdout, stderr = baco("bench", "--edges", "1e9", "--out", tmp_path / "no" / "bench.csv")
    assert (code, stdout) == (2, "")
    assert "does not exist" in stderr


def test_the_commit_is_that_of_the_checkout():
    command = ["git", "rev-parse", "--short", "HEAD"]
    head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    if not head:
        pytest.skip("needs a git checkout")
    assert machine.source_commit() in (head, f"{head}+")


def test_an_installed_copy_has_no_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # somebody else's
    (tmp_path / "machine.py").touch()
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.source_commit() is None


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine.source_commit() is None
