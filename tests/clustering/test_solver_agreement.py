"""The compiled solver equals the slow reference solver, label for label, without tolerance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_solver as reference
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.contracted import ContractedClusters
from baco_gpu.clustering.solve.merging import compact, merge_to, merged
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.partners import one_sided_partners
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import SCHEMES
from graphs import bipartite_graphs, random_graph, reference_of, targets

gammas = st.sampled_from([0.0, 0.25, 1.0, 3.7, 40.0, 1e6])


def labels_of(partition):
    return [labels.tolist() for labels in partition.labels]


def start(graph, scheme, gamma):
    backend = get_backend("cpu")
    slow, weights = reference_of(graph, scheme)
    problem = backend.load(graph, weights)
    return backend, problem, slow, weights, gamma * weights.penalty_per_gamma


@given(bipartite_graphs(), st.sampled_from(SCHEMES), gammas, st.integers(0, 2**63 - 1), st.integers(1, 5))
def test_sweeps(graph, scheme, gamma, seed, num_blocks):
    backend, problem, slow, weights, penalty = start(graph, scheme, gamma)
    partition, expected = singletons(backend, problem), reference.singletons(slow)
    assert labels_of(partition) == expected
    for number in range(3):
        hold = number == 2
        sweep(backend, problem, partition, penalty, seed=seed, number=number, num_blocks=num_blocks, hold_rows=hold)
        reference.sweep(slow, expected, penalty, seed, number, num_blocks, hold_rows=hold)
        assert labels_of(partition) == expected
        exact = reference.objective(slow, expected, penalty)
        measured = objective(backend, partition.within, partition.volumes, penalty, weights.unit) * weights.unit
        assert measured == pytest.approx(float(exact), rel=1e-12, abs=1e-12 * partition.within)


@given(
    bipartite_graphs(),
    st.sampled_from(SCHEMES),
    gammas,
    st.integers(0, 3),
    targets,
    st.booleans(),
)
def test_merging(graph, scheme, gamma, sweeps, target, shared):
    shared &= not isinstance(target, tuple)
    backend, problem, slow, _, penalty = start(graph, scheme, gamma)
    partition = singletons(backend, problem)
    for number in range(sweeps):
        sweep(backend, problem, partition, penalty, seed=5, number=number)
    expected = reference.merge_to(slow, labels_of(partition), penalty, target, shared)
    found = merge_to(backend, problem, partition, penalty, target, shared=shared)
    assert labels_of(found) == expected


@given(
    bipartite_graphs(),
    gammas,
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=2, max_size=4),
    st.sampled_from([(True, True), (True, False), (False, True), None]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_known_of_merges_may_outlive_a_level(graph, gamma, levels, by_side, shared, hold_rows):
    """Levels with sweeps between them: clusters that have merged before give what those do that begin anew, and what
    the graph of clusters gives, made again after every round."""
    shared &= by_side is None
    backend, problem, _, _, penalty = start(graph, "degree", gamma)
    partition, clusters = singletons(backend, problem), backend.clusters(problem, penalty, shared=shared)
    rows, number = sum(fewer for fewer, _ in levels), 0
    for fewer, sweeps in levels:
        target = rows if by_side is None else tuple(rows if wanted else None for wanted in by_side)
        found, *others = (
            merged(backend, kind, partition, penalty, target)
            for kind in (
                clusters,
                backend.clusters(problem, penalty, shared=shared),
                ContractedClusters(backend, problem, penalty, shared=shared),
            )
        )
        for other in others:
            assert labels_of(found) == labels_of(other)
            assert found.within == other.within == backend.weight_within(problem, found.labels)
            for mine, theirs in zip(found.volumes, other.volumes, strict=True):
                np.testing.assert_array_equal(mine, theirs)
        for _ in range(sweeps):
            sweep(backend, problem, found, penalty, seed=3, number=number, hold_rows=hold_rows)
            number += 1
        partition, rows = found, rows - fewer


@given(bipartite_graphs(), st.sampled_from(SCHEMES), gammas, st.sampled_from([0, 1]))
def test_second_best(graph, scheme, gamma, side):
    backend, problem, slow, _, penalty = start(graph, scheme, gamma)
    partition = singletons(backend, problem)
    sweep(backend, problem, partition, penalty, seed=1, number=0)
    second = backend.second_best(problem, partition, side, penalty)
    assert second.tolist() == reference.second_best(slow, labels_of(partition), side, penalty)


@given(bipartite_graphs(), st.sampled_from(SCHEMES), gammas, st.integers(0, 2))
def test_partners_of_one_sided_co_clusters(graph, scheme, gamma, sweeps):
    backend, problem, slow, _, penalty = start(graph, scheme, gamma)
    partition = singletons(backend, problem)
    for number in range(sweeps):
        sweep(backend, problem, partition, penalty, seed=3, number=number)
    partition = compact(backend, partition)
    partners = one_sided_partners(backend, problem, partition, penalty)
    assert partners.dtype == partition.labels[0].dtype
    assert partners.tolist() == reference.one_sided_partners(slow, labels_of(partition), penalty)
    for label in np.flatnonzero(partners >= 0):
        lacking = [side for side in partition.labels if label not in side]
        assert [partners[label] in side for side in lacking] == [True]


@pytest.mark.parametrize("weighted", [False, True])
def test_whole_pipeline_on_a_larger_graph(weighted):
    graph = random_graph(120, 90, 700, seed=3, weighted=weighted)
    backend, problem, slow, _, penalty = start(graph, "degree", 4.0)
    partition, expected = singletons(backend, problem), reference.singletons(slow)
    for number in range(3):
        sweep(backend, problem, partition, penalty, seed=9, number=number)
        reference.sweep(slow, expected, penalty, 9, number)
    for step, target in enumerate((80, 50)):
        partition = merge_to(backend, problem, partition, penalty, target)
        expected = reference.merge_to(slow, expected, penalty, target)
        sweep(backend, problem, partition, penalty, seed=9, number=3 + step, hold_rows=True)
        reference.sweep(slow, expected, penalty, 9, 3 + step, hold_rows=True)
        assert labels_of(partition) == expected
        assert reference.rows(expected) in (target - 1, target)
    assert np.unique(partition.labels[0]).size > 1
