"""Host logic around the kernels: which node goes where, grids, tables, and how much memory all that takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.backends.device import DeviceBackend
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.paper import sweeps_only
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda.plan import (
    HubTables,
    Limits,
    SidePlan,
    blocks_bytes,
    blocks_for,
    contraction_bytes,
    hub_tables,
    move_bytes,
    plan_side,
    second_bytes,
    shared_grid,
    slots_for,
    solve_bytes,
    usable,
)
from baco_gpu.graph.bipartite import BipartiteGraph
from cuda_host.host import SMALL, host_backend, on_kernels
from graphs import random_graph
from memory import SLACK, peak
from tiers import full

MOST_SHARED = 48 * 1024  # what a thread block gets without asking for more
FOUR_BLOCKS = 24_576  # of a multiprocessor with 100 KB, of which every thread block takes one more


def test_the_lists_of_each_kernel():
    limits = Limits()
    assert limits.longest == (8, 128, 1024)
    degrees = [0, 1, 8, 9, 128, 129, 1024, 1025, 70_000]
    plan = plan_side(np, np.concatenate([[0], np.cumsum(degrees)]), limits)
    assert plan == SidePlan(nodes=9, longer=(2, 2, 2), largest_degree=70_000, hub_slots=4 * (1025 + 70_000))


def test_a_side_without_nodes():
    assert plan_side(np, np.zeros(1, np.int64), Limits()) == SidePlan(0, (0, 0, 0), 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("id_bytes", [4, 8])
@pytest.mark.parametrize("kernel", ["label_tiny", "label_long", "merges_of_clusters"])
def test_shared_tables_fit_every_device(kernel, id_bytes, weighted):
    most = MOST_SHARED if id_bytes == 8 and weighted and kernel == "label_long" else FOUR_BLOCKS
    assert Limits().shared_bytes(kernel, id_bytes, weighted=weighted) <= most


@given(st.integers(0, 2**40))
def test_half_of_a_table_stays_free(labels):
    slots = slots_for(labels)
    assert slots & (slots - 1) == 0
    assert slots >= max(2, 2 * labels)
    assert slots < max(4, 4 * labels)


def test_tables_of_hubs_stay_within_their_memory():
    limits = Limits(hub_bytes=1 << 20)
    side = SidePlan(nodes=10**6, longer=(0, 0, 500), largest_degree=5000, hub_slots=4 * 500 * 3000)
    wave = (1 << 20) // 12
    tables = hub_tables(side, num_labels=10**6, id_bytes=4, limits=limits)
    assert tables == HubTables(waves=-(-6_000_000 // wave), wave_slots=wave, slots=wave + 16_384)
    assert tables.nbytes(4) == tables.slots * 12 <= limits.hub_bytes + 16_384 * 12
    # Labels bound the slots as well, and what fits is there at once.
    assert hub_tables(side, 20, 8, limits) == HubTables(1, 500 * 64, 500 * 64)
    # A table may be larger than a wave.
    giant = SidePlan(nodes=1, longer=(0, 0, 1), largest_degree=10**8, hub_slots=4 * 10**8)
    assert hub_tables(giant, 10**9, 8, limits).slots > slots_for(10**8)
    assert hub_tables(SidePlan(9, (1, 1, 0), 900), 10**9, 8, limits) == HubTables(1, 1, 0)


@pytest.mark.parametrize("degree", [1025, 10**4, 10**5, 10**7])
def test_hubs_have_as_many_thread_blocks_as_there_are_processors(degree):
    """However large the largest is: with the limits of a GPU, a wave has hubs enough for all of them, or all hubs."""
    limits, hubs, processors = Limits(), 10_000, 132
    offsets = np.concatenate([[0], np.cumsum([degree, *[1025] * hubs])])
    side = plan_side(np, offsets, limits)
    tables = hub_tables(side, 10**9, 4, limits)
    small = slots_for(1025)
    in_a_wave = min(hubs + 1, tables.wave_slots // small)
    assert in_a_wave >= processors
    assert shared_grid(side.longer[-1], 1, processors) >= processors


def test_grids():
    assert [blocks_for(count, 256) for count in (0, 1, 256, 257)] == [1, 1, 1, 2]
    assert shared_grid(10**9, 8, processors=132) == 132 * 32
    assert shared_grid(17, 8, processors=132) == 3
    with pytest.raises(OverflowError, match=r"at most 2147483647 thread blocks, got 4294967296"):
        blocks_for(2**40, 256)


@on_kernels
@pytest.mark.parametrize("weighted", [False, True])
def test_measured_memory_is_below_the_estimate(weighted):
    graph = random_graph(9000, 9000, 60_000, seed=3, weighted=weighted)
    weights = integer_weights(graph)
    backend = host_backend()
    problem = backend.load(graph, weights)
    partition = singletons(backend, problem)
    tables = hub_tables(problem.plans[0], partition.num_labels, 4, SMALL)
    (block,), totals = backend.blocks(problem, 0, 1, 1), np.zeros(2, np.int64)
    backend.move(problem, partition.copy(), 0, block, 1.0, None, totals)  # builds, and whatever happens once

    moved = peak(lambda: backend.move(problem, partition, 0, block, 1e-4, None, totals))
    assert moved <= move_bytes(graph.num_users, tables, 4) + SLACK
    dealt = peak(lambda: backend.blocks(problem, 0, 1, 4))
    assert dealt <= blocks_bytes(graph.num_users) + SLACK
    second = peak(lambda: backend.second_best(problem, partition, 0, 1e-4))
    assert second <= second_bytes(graph.num_users, partition.num_labels, tables, 4) + SLACK
    for labels in (partition.num_labels, 70):
        coarse = partition.copy()
        for side in (0, 1):
            coarse.labels[side][:] %= labels
        pairs = len(backend.contract(problem, coarse).neighbors) // 2
        marks = 2 * labels + 3 * 8 * labels + 8 * graph.num_users  # occupied, rows, and what indexing with labels takes
        contracted = peak(lambda coarse=coarse: backend.contract(problem, coarse))
        assert contracted <= contraction_bytes(graph.num_edges, weighted, pairs) + marks + SLACK


@on_kernels
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("nodes", full([3000, 15_000, 45_000], [3000]))
@pytest.mark.parametrize("merging", [False, True])
def test_a_whole_solve_stays_below_its_estimate_and_near_it(nodes, weighted, merging):
    graph = random_graph(nodes * 2 // 3, nodes // 3, 40_000, seed=3, weighted=weighted)
    weights = integer_weights(graph)
    penalty = 2 * weights.penalty_per_gamma
    backend = host_backend()
    problem = backend.load(graph, weights)
    estimate = backend.needs(graph, weights, merging=merging)

    def solve(sweeps):
        common = {"seed": 0, "observe": lambda stage, partition: None}
        if not merging:
            partition = sweeps_only(backend, problem, penalty, sweeps=sweeps, **common)
        else:
            partition = multilevel(backend, problem, penalty, nodes // 4, schedule=Schedule(sweeps, 2, 1), **common)
        backend.second_best(problem, compact(backend, partition), 0, penalty)

    sweep(backend, problem, singletons(backend, problem), penalty, seed=0, number=0)  # builds
    # Without sweeps merging begins at singletons: as many pairs of clusters as edges.
    measured = max(peak(lambda sweeps=sweeps: solve(sweeps)) for sweeps in (0, 2))
    here = estimate.total - estimate.graph  # the graph is where it was before
    assert measured <= here + SLACK
    assert here <= 2 * measured


@pytest.mark.parametrize("free", [0, 31, 10**6, 150 * 10**9])
def test_a_margin_stays_free(free):
    assert usable(free) + free // 32 == free


def test_bytes_an_edge_a_node_and_a_label():
    def total(nodes, edges, **options):
        return solve_bytes(nodes, 0, edges, **options).total

    empty = solve_bytes(0, 0, 0, hub_tables_bytes=100)
    assert empty.total - empty.sweeping < 100 <= empty.sweeping < 200
    for options, an_edge in (
        ({}, 8),
        ({"id_bytes": 8}, 16),
        ({"weighted": True}, 24),
        ({"contracting": True}, 8 + 136),
        ({"contracting": True, "weighted": True}, 24 + 136),
    ):
        assert total(0, 10**9, **options) - total(0, 0, **options) == pytest.approx(an_edge * 10**9, rel=1e-6)
    # Two partitions of 20 bytes a label, 16 of the graph, and the work of a sweep, or of merging.
    # Without nodes there are the counters of a sweep.
    assert total(10**6, 0, merging=False) - total(0, 0, merging=False) == 10**6 * (40 + 16 + 40) - 48
    assert total(10**6, 0) - total(0, 0) == 10**6 * (40 + 16 + 216) - 48


def test_hubs_add_their_tables():
    backend = DeviceBackend(np, SimpleNamespace(limits=Limits(), processors=4))
    users, items = np.arange(3000), np.zeros(3000, np.int64)
    star = BipartiteGraph.from_edges(users, items)
    path = BipartiteGraph.from_edges(users, users // 3)
    with_hub, without = (backend.needs(graph, integer_weights(graph), merging=False) for graph in (star, path))
    assert with_hub.sweeping - solve_bytes(3000, 1, 3000, merging=False).sweeping == slots_for(3000) * 12
    assert without == solve_bytes(3000, 1000, 3000, merging=False)
