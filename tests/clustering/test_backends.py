"""Backends: choosing one, what the CPU backend keeps between calls, and compiled loops that later processes reuse."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

from baco_gpu.clustering.backends import (
    NAMES,
    cpu_kernels,
    cpu_merging,
    cpu_nodes,
    cpu_tables,
    cuda_backend,
    get_backend,
)
from baco_gpu.clustering.backends.backend import USERS, Backend
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.solve.merging import compact, merge_to
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.errors import BackendUnavailableError, InputError
from baco_gpu.graph.arrays import cuda_obstacle
from graphs import random_graph

pytestmark = pytest.mark.heavy("solves many graphs")

KERNELS = {
    name: value
    for module in (cpu_kernels, cpu_merging, cpu_nodes)
    for name, value in vars(module).items()
    if isinstance(value, Dispatcher)
}


class TestChoosing:
    def test_the_cpu_backend_is_always_there(self):
        assert get_backend("cpu").name == "cpu"
        assert get_backend("cpu").xp is np

    def test_auto_takes_the_cpu_where_there_is_nothing_else(self):
        assert get_backend().name == get_backend("auto").name == "cpu"

    @pytest.mark.parametrize("name", ["gpu", "CPU", "", "gpu:1", "cpu:", None, 0, ["cpu"], np.array(["cpu", "cuda"])])
    def test_unknown_names_are_told_the_known_ones(self, name):
        with pytest.raises(InputError, match=r"^backend must be one of 'auto', 'cpu', 'cuda', got ") as caught:
            get_backend(name)
        assert "\n" not in str(caught.value)
        assert NAMES == ("auto", "cpu", "cuda")

    def test_the_cpu_has_no_number(self):
        with pytest.raises(InputError, match="backend must have no number where it is the CPU, got 1"):
            get_backend("cpu:1")

    def test_cuda_says_what_is_missing_and_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", None)
        expected = r"^backend='cuda' is not available: CuPy is not installed \(pip install 'baco_gpu\[cuda13\]'"
        with pytest.raises(BackendUnavailableError, match=expected):
            get_backend("cuda")

    def test_cuda_never_becomes_another_backend(self, monkeypatch):
        monkeypatch.setattr(cuda_backend, "cuda_obstacle", lambda: "no device")
        with pytest.raises(BackendUnavailableError, match="no device"):
            get_backend("cuda")

    @pytest.mark.parametrize(
        ("start", "count", "obstacle"),
        [
            ("import nothing_of_this_name", "1", "CuPy cannot be imported (No module named 'nothing_of_this_name'); "),
            ("raise ImportError('libcublas.so.13:\\nnot found')", "1", "CuPy cannot be imported (libcublas.so.13:); "),
            ("", "fail('driver version is insufficient')", "no CUDA device (driver version is insufficient); "),
            ("", "0", "no CUDA device (none is visible); remedy: an NVIDIA driver, 580 or later for [cuda13], 525"),
            ("", "1", None),
        ],
    )
    def test_what_stands_between_cupy_and_a_device_is_named(self, tmp_path, monkeypatch, start, count, obstacle):
        (tmp_path / "cupy.py").write_text(
            f"{start}\n"
            "def fail(message):\n"
            "    raise RuntimeError(message)\n"
            "class cuda:\n"
            "    class runtime:\n"
            f"        getDeviceCount = staticmethod(lambda: {count})\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        try:
            found = cuda_obstacle()
        finally:
            sys.modules.pop("cupy", None)
        if obstacle is None:
            assert found is None
        else:
            assert obstacle in found
            assert "remedy: " in found

    def test_the_cpu_backend_has_every_primitive(self):
        names = {name for name in vars(Backend) if not name.startswith("_")}
        assert names >= {"load", "move", "volumes", "clusters", "contract", "best_partners", "second_best"}
        assert all(hasattr(get_backend("cpu"), name) for name in names)


class TestScratch:
    def solve(self, backend, graph, rows):
        weights = integer_weights(graph)
        problem = backend.load(graph, weights)
        partition = singletons(backend, problem)
        sweep(backend, problem, partition, 3 * weights.penalty_per_gamma, seed=0, number=0)
        partition = merge_to(backend, problem, partition, 3 * weights.penalty_per_gamma, rows)
        second = backend.second_best(problem, compact(backend, partition), USERS, weights.penalty_per_gamma)
        return [*(labels.tolist() for labels in partition.labels), second.tolist()]

    def test_is_clean_after_every_solve_and_serves_graphs_of_any_size(self, monkeypatch):
        sizes = [(2000, 1500, 30_000), (40, 30, 200), (300, 900, 2500), (2500, 2500, 25_000), (5, 5, 12)]
        graphs = [random_graph(*size, seed=k, weighted=k % 2 == 0) for k, size in enumerate(sizes)]
        shared = CpuBackend()
        for few, graph in itertools.product((1 << 18, 100), graphs):  # also with more labels than have totals each
            monkeypatch.setattr(cpu_tables, "_FEW_LABELS", few)
            assert self.solve(shared, graph, 10) == self.solve(CpuBackend(), graph, 10)
            for keys, totals, _ in shared._tables._kept:
                assert keys is None or (keys == -1).all()
                assert not totals.any()

    def test_is_not_shared(self):
        assert get_backend("cpu") is not get_backend("cpu")


class TestThreads:
    def test_calls_leave_the_number_of_threads_as_it_was(self):
        before = numba.get_num_threads()
        graph = random_graph(2000, 1500, 30_000, seed=0)
        backend = CpuBackend()
        problem = backend.load(graph, integer_weights(graph))
        for count in {1, before}:
            numba.set_num_threads(count)
            backend.weight_within(problem, singletons(backend, problem).labels)
            assert numba.get_num_threads() == count
        numba.set_num_threads(before)

    @given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 8))
    def test_chunks_cover_everything_once_and_cost_alike(self, costs, chunks):
        costs = np.array(costs, dtype=np.int64)
        bounds = cpu_nodes.chunk_bounds(costs, chunks)
        assert bounds[0] == 0
        assert bounds[-1] == len(costs)
        assert (np.diff(bounds) >= 0).all()
        share = costs.sum() / chunks
        assert all(costs[first:last].sum() <= share + costs.max(initial=0) for first, last in pairwise(bounds))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_the_table_of_a_loop_that_fails_is_used_no_more(self, error, monkeypatch):
        """A loop that is left half way leaves totals behind."""

        def failing(*arguments):
            raise error

        graph = random_graph(40, 30, 200, seed=0)
        backend = CpuBackend()
        problem = backend.load(graph, integer_weights(graph))
        partition = singletons(backend, problem)
        sweep(backend, problem, partition, 0.1, seed=0, number=0)
        assert backend._tables._kept
        monkeypatch.setattr(cpu_kernels, "best_labels", failing)
        with pytest.raises(error):
            sweep(backend, problem, partition, 0.1, seed=0, number=1)
        assert not backend._tables._kept


class TestCache:
    def test_there_are_compiled_loops(self):
        assert {
            "best_labels",
            "best_merges",
            "best_partners",
            "gather_rows",
            "second_best_labels",
            "weight_within",
        } <= set(KERNELS)

    @pytest.mark.parametrize("name", [name for name in KERNELS if not name.startswith("_")])
    def test_every_compiled_loop_is_kept_on_disk(self, name):
        assert KERNELS[name]._cache.cache_path

    def test_a_second_process_compiles_nothing_again(self, tmp_path):
        # Two of the quickest to compile stand for all.
        code = """
import numpy as np
from baco_gpu.clustering.backends import cpu_nodes as loops
labels = np.array([0, 1, 1], np.int32)
assert loops.sums_by_label(labels, np.array([1, 2, 3]), 2).tolist() == [1, 5]
assert loops.group_by_label(labels, 2)[1].tolist() == [0, 1, 3]
for kernel in (loops._add_up, loops._group):
    print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

        def run():
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout.split("\n")[:2], sorted(path.name for path in tmp_path.rglob("*.nb[ic]"))

        first, files = run()
        assert first == ["0 1", "0 1"]
        assert len(files) == 4  # an index and the code of each
        second, files_later = run()
        assert second == ["1 0", "1 0"]
        assert files_later == files
