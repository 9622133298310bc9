"""Any number of ranks, and any cut of the nodes between them, give what one process gives, bit for bit."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.backends.distributed import DistributedBackend
from baco_gpu.clustering.backends.share import even_bounds, share_of
from baco_gpu.clustering.solve.cocluster import cocluster
from baco_gpu.clustering.solve.merging import compact, merged
from baco_gpu.clustering.solve.parameters import SolverParameters
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import SCHEMES, integer_edges, integer_weights
from baco_gpu.progress import silent
from cuda_host.device_arrays import strict_backend
from cuda_host.host import ON_KERNELS, host_backend
from graphs import bipartite_graphs, random_graph
from thread_ranks import on_ranks
from tiers import full


def solved(graph, bounds, parameters, backend=CpuBackend):
    """The results of all ranks."""
    settings, edges = SolverParameters(**parameters).check_parameters(), integer_edges(graph)

    def work(ranks):
        own = replace(settings, backend=DistributedBackend(backend(), ranks))
        return cocluster(share_of(graph, edges, ranks.rank, bounds), own, parameters, silent)

    return on_ranks(len(bounds[0]) - 1, work)


def assert_same(result, expected):
    assert result.labels_sha256 == expected.labels_sha256
    for side, other in ((result.users, expected.users), (result.items, expected.items)):
        assert side.labels.dtype == other.labels.dtype
        for name in ("labels", "secondary", "degrees"):
            np.testing.assert_array_equal(getattr(side, name), getattr(other, name))
    np.testing.assert_array_equal(result.objective_trace, expected.objective_trace)
    for mine, others in zip(result.volumes, expected.volumes, strict=True):
        np.testing.assert_array_equal(mine, others)
    for name in ("objective", "gamma", "num_edges", "graph_checksum", "scale", "settings"):
        assert getattr(result, name) == getattr(expected, name)


def alone(graph, parameters):
    return cocluster(graph, SolverParameters(**parameters).check_parameters(), parameters, silent)


@st.composite
def cut_graphs(draw):
    graph = draw(bipartite_graphs())
    ranks = draw(st.integers(1, 4))
    cuts = [
        sorted(draw(st.lists(st.integers(0, size), min_size=ranks - 1, max_size=ranks - 1)))
        for size in (graph.num_users, graph.num_items)
    ]
    users, items = (
        np.array([0, *inner, size]) for inner, size in zip(cuts, (graph.num_users, graph.num_items), strict=True)
    )
    return graph, (users, items)


@given(
    cut_graphs(),
    st.fixed_dictionaries(
        {
            "weights": st.sampled_from(SCHEMES),
            "gamma": st.sampled_from([None, 0.0, 0.25, 1.0, 3.7, 1e6]),
            "codebooks": st.sampled_from(["separate", "shared"]),
            "secondary": st.sampled_from(["users", "both", "none"]),
            "budget": st.sampled_from([None, 1.0]),
            "random_state": st.integers(0, 2**63 - 1),
        }
    ),
)
def test_any_cut_of_any_graph(cut, parameters):
    graph, bounds = cut
    expected = alone(graph, parameters)
    for result in solved(graph, bounds, parameters):
        assert_same(result, expected)


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize(
    "parameters",
    [
        {"budget": 0.3},
        {"budget": 0.3, "codebooks": "shared", "secondary": "both"},
        {"budget": 40, "weights": "sqrt"},
        {"budget": 0.8, "solver": "paper", "secondary": "none"},
        {"budget": None, "gamma": 2.0, "solver": "paper"},
    ],
    ids=lambda parameters: ",".join(map(str, parameters.values())),
)
@pytest.mark.parametrize("weighted", [False, True])
def test_budgets_are_met_alike(ranks, parameters, weighted):
    size = full(10, 1)
    graph = random_graph(120 * size, 90 * size, 700 * size, seed=ranks, weighted=weighted)
    expected = alone(graph, parameters)
    for result in solved(graph, even_bounds(graph, ranks), parameters):
        assert_same(result, expected)


def locked(backend, lock=threading.Lock()):  # noqa: B008 - one for all: the kernels on the CPU run one at a time
    """The backend with launches that wait for one another."""
    launch = backend._launch

    class Locked:
        limits, processors = launch.limits, launch.processors

        def __call__(self, *arguments):
            with lock:
                launch(*arguments)

    backend._launch = Locked()
    return backend


class TestKernels:
    pytestmark = ON_KERNELS

    @pytest.mark.parametrize("made", [host_backend, strict_backend])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_they_give_the_labels_of_one_process(self, made, weighted):
        graph = random_graph(60, 50, 400, seed=1, weighted=weighted)
        parameters = {"budget": 0.4, "secondary": "both"}
        expected = alone(graph, parameters)
        for result in solved(graph, even_bounds(graph, 3), parameters, lambda: locked(made())):
            assert_same(result, expected)


def test_the_edges_of_a_share_fall_with_the_ranks():
    graph = random_graph(400, 300, 6000, seed=2, weighted=True)
    edges = integer_edges(graph)
    for ranks in (1, 2, 4):
        bounds = even_bounds(graph, ranks)
        shares = [share_of(graph, edges, rank, bounds) for rank in range(ranks)]
        for side in ("csr", "csc"):
            counts = [len(getattr(share.own, side).neighbors) for share in shares]
            assert sum(counts) == graph.num_edges
            assert max(counts) < 1.2 * graph.num_edges / ranks
        for share in shares:
            arrays = [*share.edges.weights, share.own.csr.neighbors, share.own.csc.neighbors]
            assert all(array.base is None for array in arrays), "it keeps none of the graph's own arrays"


def test_a_sweep_sends_the_nodes_that_move_and_their_labels():
    graph = random_graph(120, 90, 900, seed=4)
    edges, weights, bounds = integer_edges(graph), integer_weights(graph), even_bounds(graph, 3)

    def work(ranks):
        backend = DistributedBackend(CpuBackend(), ranks)
        share = share_of(graph, edges, ranks.rank, bounds)
        problem = backend.load(share, integer_weights(share))
        partition = singletons(backend, problem)
        moved = [
            sweep(backend, problem, partition, weights.penalty_per_gamma, seed=1, number=number) for number in range(3)
        ]
        return sum(moved), ranks.received["gather"]

    (moved, first), (_, second), (_, third) = on_ranks(3, work)
    assert first + second + third == 2 * moved * 8, "eight bytes a node, to each of two others"


def test_the_rows_of_clusters_lie_on_one_rank_each():
    graph = random_graph(120, 90, 900, seed=4, weighted=True)
    edges, bounds = integer_edges(graph), even_bounds(graph, 3)
    backend = CpuBackend()
    problem = backend.load(graph, integer_weights(graph))
    partition = compact(backend, singletons(backend, problem))
    relabel = np.arange(partition.num_labels, dtype=np.int32) // 3
    whole = rows_of(backend.contract_again(backend.contract(problem, partition), relabel))

    def work(ranks):
        distributed = DistributedBackend(CpuBackend(), ranks)
        share = share_of(graph, edges, ranks.rank, bounds)
        own = distributed.load(share, integer_weights(share))
        clusters = distributed.contract_again(distributed.contract(own, partition), relabel)
        return rows_of(clusters), clusters.bounds[ranks.rank : ranks.rank + 2]

    for rows, (first, last) in on_ranks(3, work):
        assert 0 < last - first < len(whole)
        for cluster, row in enumerate(rows):
            assert row == (whole[cluster] if first <= cluster < last else {})


def test_a_graph_of_clusters_does_not_outlive_its_level(monkeypatch):
    """Its entries would lie beside those of the next one."""
    graph, made = random_graph(120, 90, 900, seed=4), []
    contract_again = DistributedBackend.contract_again

    def noting(*arguments):
        found = contract_again(*arguments)
        made.append(weakref.ref(found.neighbors))
        return found

    def work(ranks):
        backend = DistributedBackend(CpuBackend(), ranks)
        weights = integer_weights(graph)
        problem = backend.load(share_of(graph, integer_edges(graph), 0, even_bounds(graph, 1)), weights)
        clusters = backend.clusters(problem, weights.penalty_per_gamma)
        partition = singletons(backend, problem)
        for rows in (100, 60):
            partition = merged(backend, clusters, partition, weights.penalty_per_gamma, rows)
            gc.collect()
            assert made
            assert not any(reference() is not None for reference in made)

    monkeypatch.setattr(DistributedBackend, "contract_again", noting)
    on_ranks(1, work)


def rows_of(clusters):
    return [
        dict(zip(*(array[begin : begin + count].tolist() for array in clusters[2:4]), strict=True))
        for begin, count in zip(clusters.rows, clusters.counts, strict=True)
    ]
