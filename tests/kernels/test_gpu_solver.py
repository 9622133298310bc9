"""Whole solves on a device equal the CPU backend's bit for bit, stage by stage, and two of them equal each other.

The same tests run twice: on a GPU (mark `gpu`), and, on graphs of a few thousand edges, on the kernels built for the
CPU. What fails on a GPU alone is therefore the GPU's part: its order of threads, its compiler, and CuPy.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from baco_gpu import BalancedCoclustering
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import ITEMS, USERS
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.solve import parameters
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.paper import sweeps_only
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.readers import load_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.graph.arrays import cuda_obstacle
from baco_gpu.graph.bipartite import BipartiteGraph
from cuda_host.host import ON_KERNELS, host_backend, with_ids
from graphs import graph_of_all_lengths

# Planted graphs have so many edges at most. 6.4e7 takes half an hour or so, most of it on the CPU.
MOST_EDGES = float(os.environ.get("BACO_GPU_EDGES", "1e6"))
SMALL_GRAPH = 3000


ON_DEVICE = [
    pytest.mark.gpu,
    pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device"),
]


@functools.lru_cache(maxsize=2)
def planted(edges: int) -> BipartiteGraph:
    """Power-law degrees on both sides, a node for 14 edges, two users for an item."""
    nodes = max(round(edges / 14), 30)
    clicks, _, _ = planted_coclusters(nodes * 2 // 3, nodes // 3, edges, max(nodes // 60, 2), noise=0.1, seed=0)
    return BipartiteGraph.from_interactions(clicks)


def weighted(graph: BipartiteGraph, kind: str) -> BipartiteGraph:
    """The same edges with other weights."""
    if kind == "plain":
        return graph
    edges = graph.to_scipy()
    rng = np.random.default_rng(5)
    edges.data = rng.integers(1, 6, graph.num_edges).astype(float) / (1 if kind == "whole" else 3)
    return BipartiteGraph.from_scipy(edges)


def cases() -> list[Any]:
    """Where, and a graph of how many edges or of which file."""
    found = [pytest.param("host", SMALL_GRAPH, marks=ON_KERNELS, id="host-small")]
    found.append(pytest.param("cuda", SMALL_GRAPH, marks=ON_DEVICE, id="cuda-small"))
    sizes = [size for size in (10**5, 10**6, 10**7, 64 * 10**6) if size <= MOST_EDGES]
    found += [pytest.param("cuda", size, marks=ON_DEVICE, id=f"cuda-{size}") for size in sizes]
    for name in ("beauty", "gowalla"):
        marks = [*ON_DEVICE, pytest.mark.real_data]
        found.append(pytest.param("cuda", f"{name}.npz", marks=marks, id=f"cuda-{name}"))
    return found


@pytest.fixture
def device(request, monkeypatch):
    """The backend under test, which `backend="cuda"` names."""
    if request.param == "cuda":
        return get_backend("cuda")
    backend = host_backend(interrupt=7)
    monkeypatch.setattr(parameters, "get_backend", lambda name: backend if name == "cuda" else get_backend(name))
    return backend


@pytest.fixture
def graph(request):
    if isinstance(request.param, int):
        return planted(request.param)
    data = request.getfixturevalue("real_data")
    return BipartiteGraph.from_interactions(load_split(data / request.param).train)


ON_ALL = pytest.mark.parametrize(("device", "graph"), cases(), indirect=True)
EVERYWHERE = pytest.mark.parametrize(
    "device", [pytest.param("host", marks=ON_KERNELS), pytest.param("cuda", marks=ON_DEVICE)], indirect=True
)


def history(
    backend: Any, graph: BipartiteGraph, seed: int, rows: int | None, gamma: float = 3.0, ids: Any = None
) -> list[Any]:
    """Every stage of a solve and what it leaves, and at the end the secondary labels of both sides.

    With `rows` the multilevel solver, down to so many; without, the sweeps of the published one. `ids` is another
    dtype of ids than that of the graph.
    """
    weights = integer_weights(graph)
    penalty = gamma * weights.penalty_per_gamma
    problem = backend.load(graph, weights)
    if ids is not None:
        problem, _ = with_ids(problem, singletons(backend, problem), ids)
    stages: list[Any] = []

    def observe(stage: str, partition: Any) -> None:
        arrays = [backend.to_host(array) for array in (*partition.labels, *partition.volumes)]
        stages.append((stage, partition.within, *(array.copy() for array in arrays)))

    common = {"seed": seed, "observe": observe}
    if rows is None:
        partition = sweeps_only(backend, problem, penalty, sweeps=5, **common)
    else:
        partition = multilevel(backend, problem, penalty, rows, schedule=Schedule(3, 3, 2), **common)
    partition = compact(backend, partition)
    seconds = [backend.second_best(problem, partition, side, penalty) for side in (USERS, ITEMS)]
    return [*stages, ("secondary", 0, *(backend.to_host(second) for second in seconds))]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert [stage[:2] for stage in found] == [stage[:2] for stage in expected]
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for array, other in zip(mine[2:], theirs[2:], strict=True):
            np.testing.assert_array_equal(array, other, err_msg=f"stage {number}, {mine[0]}")


@ON_ALL
@pytest.mark.parametrize("weights", ["plain", "whole", "fractions"])
def test_every_stage_is_that_of_the_cpu(device, graph, weights):
    graph = weighted(graph, weights)
    rows = (graph.num_users + graph.num_items) // 4
    for seed, target in ((0, rows), (1, None)):
        assert_same(history(device, graph, seed, target), history(CpuBackend(), graph, seed, target))


@EVERYWHERE
@pytest.mark.parametrize("weights", ["plain", "fractions"])
@pytest.mark.parametrize("ids", [np.int32, np.int64])
def test_lists_of_every_length(device, weights, ids):
    """Lists at, below and beyond the reach of every kernel, empty ones, and hubs that overflow every table."""
    graph = weighted(graph_of_all_lengths(device._launch.limits, 7, False), weights)
    for seed, rows, gamma in ((0, graph.num_users // 4, 2.5), (2**63 - 1, None, 0.0)):
        found = history(device, graph, seed, rows, gamma, ids)
        assert found[0][2].dtype == found[-1][-1].dtype == ids
        assert_same(found, history(CpuBackend(), graph, seed, rows, gamma))


@ON_ALL
def test_two_solves_are_identical(device, graph):
    rows = (graph.num_users + graph.num_items) // 4
    assert_same(*(history(device, graph, 3, rows) for _ in range(2)))


@ON_ALL
@pytest.mark.parametrize("solver", ["multilevel", "paper"])
def test_results_are_those_of_the_cpu(device, graph, solver):
    chosen = {"budget": 0.25} if solver == "multilevel" else {"budget": None, "gamma": 0.5}
    for seed in (0, 1, 2):
        found, expected = (
            BalancedCoclustering(solver=solver, secondary="both", random_state=seed, backend=backend, **chosen)
            .fit(graph)
            .result_
            for backend in ("cuda", "cpu")
        )
        for mine, theirs in ((found.users, expected.users), (found.items, expected.items)):
            np.testing.assert_array_equal(mine.labels, theirs.labels)
            np.testing.assert_array_equal(mine.secondary, theirs.secondary)
        assert (found.gamma, found.objective) == (expected.gamma, expected.objective)
        np.testing.assert_array_equal(found.objective_trace, expected.objective_trace)


@EVERYWHERE
@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (4, 0), (3, 3)])
def test_graphs_without_edges(device, sizes):
    graph = BipartiteGraph.from_edges([], [], num_users=sizes[0], num_items=sizes[1])
    for rows in (None, 2):
        assert_same(history(device, graph, 0, rows), history(CpuBackend(), graph, 0, rows))


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device")
def test_on_every_device_side_by_side():
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if count < 2:
        pytest.skip("needs a second CUDA device")
    graph = planted(SMALL_GRAPH)

    def solve(name):
        return BalancedCoclustering(secondary="both", backend=name).fit(graph).result_.labels_sha256

    names = [f"cuda:{number}" for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(solve, names * 3)) == {solve("cpu")}
    assert cupy.cuda.Device().id == 0


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device")
def test_on_a_stream_of_torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    graph = planted(SMALL_GRAPH)
    expected = history(CpuBackend(), graph, 0, 60)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.empty(1, device="cuda")  # torch is at work
        assert_same(history(get_backend("cuda"), graph, 0, 60), expected)


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device")
def test_a_sweep_can_be_captured(monkeypatch):
    """Nothing but the read at its end waits for the device: it goes into a CUDA graph, and does the same there."""
    import cupy

    graph, cpu, backend = planted(SMALL_GRAPH), CpuBackend(), get_backend("cuda")
    weights = integer_weights(graph)
    schedule = {"seed": 3, "number": 1, "hold_rows": True}

    def work(backend, problem, partition):
        sweep(backend, problem, partition, 3 * weights.penalty_per_gamma, **schedule)

    expected = singletons(cpu, cpu.load(graph, weights))
    work(cpu, cpu.load(graph, weights), expected)
    problem = backend.load(graph, weights)
    partition = singletons(backend, problem)
    cupy.cuda.Device().synchronize()
    # torch's allocator would have to be told of a capture.
    with (
        cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc),
        cupy.cuda.Stream(non_blocking=True) as stream,
    ):
        work(backend, problem, partition.copy())  # compiles, and fills the pool
        monkeypatch.setattr(backend, "to_host", lambda totals: np.zeros(2, np.int64))
        stream.begin_capture()
        work(backend, problem, partition)
        stream.end_capture().launch(stream)
        stream.synchronize()
    for found, wanted in zip(
        (*partition.labels, *partition.volumes), (*expected.labels, *expected.volumes), strict=True
    ):
        np.testing.assert_array_equal(found.get(), wanted)
