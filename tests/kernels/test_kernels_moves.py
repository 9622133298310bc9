"""The kernels of label_move.cu, run on the CPU, equal the CPU backend bit for bit: every length, every instance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from baco_gpu.clustering.backends.backend import ITEMS, USERS
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.solve.merging import merge_to
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda.plan import Limits
from baco_gpu.graph.bipartite import BipartiteGraph
from cuda_host.host import ON_KERNELS, SMALL, block_of, host_backend, with_ids
from graphs import graph_of_all_lengths, random_graph

pytestmark = ON_KERNELS

FULL = Limits()
BOTH_LIMITS = pytest.mark.parametrize("limits", [SMALL, FULL], ids=["small", "full"])
BOTH_WEIGHTS = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
BOTH_IDS = pytest.mark.parametrize("ids", [np.int32, np.int64])


def states(graph, cpu, penalty, problem):
    """Partitions with as many labels as nodes, with few, and with one; the last two full of ties."""
    fine = singletons(cpu, problem)
    swept = fine.copy()
    sweep(cpu, problem, swept, penalty, seed=11, number=0)
    rng = np.random.default_rng(4)
    coarse = fine.copy()
    for side in (USERS, ITEMS):
        coarse.labels[side][:] = rng.integers(0, 5, len(coarse.labels[side]))
    coarse.volumes = cpu.volumes(problem, coarse.labels, coarse.num_labels)
    coarse.within = cpu.weight_within(problem, coarse.labels)
    return [fine, swept, coarse]


def assert_same(partition, expected):
    for side in (USERS, ITEMS):
        np.testing.assert_array_equal(partition.labels[side], expected.labels[side])
        np.testing.assert_array_equal(partition.volumes[side], expected.volumes[side])
    assert partition.within == expected.within


@BOTH_LIMITS
@BOTH_WEIGHTS
@BOTH_IDS
def test_moves_and_second_labels(limits, weighted, ids):
    graph = graph_of_all_lengths(limits, 7, weighted)
    weights = integer_weights(graph)
    cpu, host = CpuBackend(), host_backend(limits, seed=3, interrupt=4 if limits == SMALL else 0)
    problem, loaded = cpu.load(graph, weights), host.load(graph, weights)
    assert all(min(plan.longer) > 0 for plan in loaded.plans), "the graph must have lists for every kernel"
    for gamma in (0.0, 2.5):
        penalty = gamma * weights.penalty_per_gamma
        for state in states(graph, cpu, penalty, problem):
            for side in (USERS, ITEMS):
                for anchored in (False, True):
                    expected = state.copy()
                    wide, partition = with_ids(loaded, state, ids)
                    nodes = cpu.blocks(problem, side, 5, 2)[0]
                    block = block_of(nodes, len(state.labels[side]))
                    totals, others = np.zeros(2, np.int64), np.zeros(2, np.int64)
                    streams = (99, 98) if anchored else (None, None)
                    with cpu.holding(expected, streams) as anchors, host.holding(partition, streams) as held:
                        cpu.move(problem, expected, side, nodes, penalty, anchors[side], totals)
                        host.move(wide, partition, side, block, penalty, held[side], others)
                    assert others.tolist() == totals.tolist()
                    assert_same(partition, expected)
                second = host.second_best(wide, partition, side, penalty)
                np.testing.assert_array_equal(second, cpu.second_best(problem, expected, side, penalty))
                assert second.dtype == ids
    wanted = {"int32": "int", "int64": "long long"}[np.dtype(ids).name]
    for kernel in ("label_tiny", "label_long"):
        for task in ("MOVE", "SECOND"):
            assert f"{kernel}<{wanted}, {str(weighted).lower()}, {task}>" in host._launch.launched


@BOTH_LIMITS
def test_every_order_of_threads_gives_the_same(limits):
    graph = graph_of_all_lengths(limits, 8, True)
    weights = integer_weights(graph)
    results = set()
    for seed, interrupt in ((1, 0), (2, 2), (3, 7)) if limits == SMALL else ((1, 0), (2, 0)):
        host = host_backend(limits, seed=seed, interrupt=interrupt)
        problem = host.load(graph, weights)
        partition = singletons(host, problem)
        totals = np.zeros(2, np.int64)
        (everyone,) = host.blocks(problem, USERS, 0, 1)
        host.move(problem, partition, USERS, everyone, 2 * weights.penalty_per_gamma, None, totals)
        second = host.second_best(problem, partition, ITEMS, 0.1)
        results.add(tuple(array.tobytes() for array in (totals, *partition.labels, *partition.volumes, second)))
    assert len(results) == 1


class Watching:
    """A launcher that hands every launch of a kernel to a function first."""

    def __init__(self, launch, kernel, look):
        self.limits, self.processors = replace(launch.limits, hub_bytes=4096), launch.processors
        self.launch, self.kernel, self.look = launch, kernel, look

    def __call__(self, kernel, values, blocks, arguments):
        if kernel == self.kernel:
            self.look(blocks, arguments)
        self.launch(kernel, values, blocks, arguments)


def test_hubs_use_global_memory_only_where_their_labels_overflow():
    """The table in global memory is filled for a hub of many labels, and stays as it was for one of few."""
    others = 3 * SMALL.block_slots
    graph = BipartiteGraph.from_edges(np.zeros(others, np.int64), np.arange(others))
    host = host_backend()
    rooms = []

    def look(blocks, arguments):
        rooms.append(arguments[-4])
        rooms[-1][:] = -7

    host._launch = Watching(host._launch, "label_long", look)
    weights = integer_weights(graph)
    problem = host.load(graph, weights)
    for label_of in (lambda items: items + 1, lambda items: items % 3):
        partition = singletons(host, problem)
        partition.labels[ITEMS][:] = label_of(np.arange(others))
        host.second_best(problem, partition, USERS, 0.0)
    many, few = rooms
    assert (np.sort(many)[-others:] == np.arange(1, others + 1)).all()
    assert (few == -7).all()


@BOTH_WEIGHTS
def test_hubs_of_several_waves_share_their_memory_and_run_on_all_processors(weighted):
    """Twenty hubs, and room for the tables of a few."""
    rng = np.random.default_rng(3)
    users, items = np.repeat(np.arange(20), 150), rng.integers(0, 900, 3000)
    values = rng.integers(1, 5, 3000).astype(float) if weighted else None
    graph = BipartiteGraph.from_edges(users, items, values, duplicates="sum" if weighted else "drop")
    weights, host, cpu = integer_weights(graph), host_backend(), CpuBackend()
    found = []
    host._launch = Watching(host._launch, "label_long", lambda blocks, arguments: found.append((blocks, arguments[-2])))
    problem, known = host.load(graph, weights), cpu.load(graph, weights)
    partition, expected = singletons(host, problem), singletons(cpu, known)
    totals, others = np.zeros(2, np.int64), np.zeros(2, np.int64)
    (everyone,) = host.blocks(problem, USERS, 0, 1)
    host.move(problem, partition, USERS, everyone, weights.penalty_per_gamma, None, totals)
    cpu.move(known, expected, USERS, np.arange(20), weights.penalty_per_gamma, None, others)
    assert_same(partition, expected)
    assert totals.tolist() == others.tolist()
    assert [wave for _, wave in found] == list(range(len(found)))
    assert len(found) > 3
    assert all(blocks >= 20 for blocks, _ in found)


def test_hubs_that_merge_in_several_waves_share_their_memory():
    graph = random_graph(257, 130, 2100, seed=6)
    weights, host, cpu, waves = integer_weights(graph), host_backend(), CpuBackend(), []
    host._launch = Watching(host._launch, "add_hubs", lambda blocks, arguments: waves.append(arguments[5]))
    penalty = 3 * weights.penalty_per_gamma
    found, expected = (
        merge_to(backend, problem, singletons(backend, problem), penalty, 40)
        for backend, problem in ((host, host.load(graph, weights)), (cpu, cpu.load(graph, weights)))
    )
    assert_same(found, expected)
    assert max(waves) > 1


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (4, 0), (3, 3)])
def test_graphs_without_edges(sizes):
    graph = BipartiteGraph.from_edges([], [], num_users=sizes[0], num_items=sizes[1])
    weights = integer_weights(graph)
    cpu, host = CpuBackend(), host_backend()
    problem = host.load(graph, weights)
    partition, expected = singletons(host, problem), singletons(cpu, cpu.load(graph, weights))
    for side in (USERS, ITEMS):
        totals = np.zeros(2, np.int64)
        (everyone,) = host.blocks(problem, side, 0, 1)
        host.move(problem, partition, side, everyone, 1.0, None, totals)
        assert not totals.any()
        assert host.second_best(problem, partition, side, 1.0).tolist() == [-1] * sizes[side]
    assert_same(partition, expected)


def test_offsets_beyond_32_bits():
    """One node's list lies beyond two thousand million edges; the pages before it are never touched."""
    begin = 2**31 + 12345
    try:
        neighbors = np.zeros(begin + 100, np.int32)
    except MemoryError:
        pytest.skip("no address space for 8 GB that are not used")
    graph = BipartiteGraph.from_edges(np.zeros(100, np.int64), np.arange(100))
    weights = integer_weights(graph)
    cpu, host = CpuBackend(), host_backend()
    problem = host.load(graph, weights)
    expected, partition = singletons(host, problem), singletons(host, problem)
    totals, others = np.zeros(2, np.int64), np.zeros(2, np.int64)
    cpu.move(cpu.load(graph, weights), expected, USERS, np.arange(1), 0.001, None, others)
    neighbors[begin:] = problem.sides[USERS].neighbors
    far = problem.sides[USERS]._replace(offsets=np.array([begin, begin + 100]), neighbors=neighbors)
    plans, problem = problem.plans, type(problem)((far, problem.sides[ITEMS]), 1, 100)
    problem.plans = plans
    host.move(problem, partition, USERS, block_of(np.arange(1), 1), 0.001, None, totals)
    assert_same(partition, expected)
    assert totals.tolist() == others.tolist() == [host.weight_within(problem, partition.labels), 1]
