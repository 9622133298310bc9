"""What must hold of every solve: Q never falls, exact bookkeeping, the same labels on any number of threads."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import reference_solver as reference
from baco_gpu.clustering.backends import cpu_tables, get_backend
from baco_gpu.clustering.solve.merging import compact, merge_to
from baco_gpu.clustering.solve.sweeps import count_rows, singletons, sweep
from baco_gpu.clustering.solve.weights import SCHEMES, integer_weights
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from graphs import bipartite_graphs, random_graph, reference_of

pytestmark = pytest.mark.heavy("solves many graphs")


def load(graph, scheme="degree"):
    backend = get_backend("cpu")
    weights = integer_weights(graph, scheme)
    return backend, backend.load(graph, weights), weights


def exact_objective(backend, problem, partition, penalty):
    users, items = (volumes.tolist() for volumes in partition.volumes)
    crossing = sum(u * i for u, i in zip(users, items, strict=True))
    return backend.weight_within(problem, partition.labels) - Fraction(penalty) * crossing


@given(
    bipartite_graphs(max_side=25, max_edges=120),
    st.sampled_from(SCHEMES),
    st.floats(0, 1e4),
    st.integers(1, 6),
    st.booleans(),
)
def test_q_never_falls_from_block_to_block(graph, scheme, gamma, num_blocks, hold_rows):
    backend, problem, weights = load(graph, scheme)
    penalty = gamma * weights.penalty_per_gamma
    # A power of two, not too small, times small integers is exact in float64: no rounding can excuse a fall.
    exact = scheme in ("degree", "unit", "paper") and weights.edges[0] is None and (not penalty or penalty > 1e-6)
    if exact and penalty:
        penalty = 2.0 ** round(np.log2(penalty))
    partition = singletons(backend, problem)
    trace = [exact_objective(backend, problem, partition, penalty)]
    for number in range(3):
        hold = hold_rows and number > 0
        sweep(
            backend,
            problem,
            partition,
            penalty,
            seed=2,
            number=number,
            hold_rows=hold,
            num_blocks=num_blocks,
            after_block=lambda state: trace.append(exact_objective(backend, problem, state, penalty)),
        )
    rounding = 0 if exact else Fraction(1e-12) * (1 + max(map(abs, trace)))
    assert all(after >= before - rounding for before, after in pairwise(trace))


@given(bipartite_graphs(max_side=25, max_edges=120), st.floats(0, 100), st.integers(1, 40))
def test_bookkeeping_is_exact(graph, gamma, target):
    backend, problem, weights = load(graph)
    penalty = gamma * weights.penalty_per_gamma
    partition = singletons(backend, problem)
    sweep(backend, problem, partition, penalty, seed=0, number=0)
    for state in (partition, compact(backend, partition), merge_to(backend, problem, partition, penalty, target)):
        expected = backend.volumes(problem, state.labels, state.num_labels)
        assert all(np.array_equal(a, b) for a, b in zip(state.volumes, expected, strict=True))
        assert state.within == backend.weight_within(problem, state.labels)


@given(bipartite_graphs(max_side=25, max_edges=120), st.floats(0.1, 100), st.integers(1, 40))
def test_merging_meets_the_rows_or_one_less(graph, gamma, target):
    assume(graph.num_users and graph.num_items)
    backend, problem, weights = load(graph)
    partition = singletons(backend, problem)
    before = count_rows(backend, partition)
    rows = count_rows(backend, merge_to(backend, problem, partition, gamma * weights.penalty_per_gamma, target))
    assert rows == before if before <= target else target - 1 <= rows <= max(target, 2)


@given(bipartite_graphs(max_side=20, max_edges=80), st.floats(0.1, 50))
def test_holding_sweeps_keep_the_occupied_clusters(graph, gamma):
    backend, problem, weights = load(graph)
    penalty = gamma * weights.penalty_per_gamma
    partition = singletons(backend, problem)
    sweep(backend, problem, partition, penalty, seed=0, number=0)
    before = [set(labels.tolist()) for labels in partition.labels]
    sweep(backend, problem, partition, penalty, seed=0, number=1, hold_rows=True)
    assert [set(labels.tolist()) for labels in partition.labels] == before


@given(bipartite_graphs(max_side=12, max_edges=40), st.sampled_from(SCHEMES), st.floats(0.05, 20))
def test_no_single_move_gains_once_converged(graph, scheme, gamma):
    backend, problem, weights = load(graph, scheme)
    slow, _ = reference_of(graph, scheme)
    penalty = gamma * weights.penalty_per_gamma
    partition = singletons(backend, problem)
    for number in range(200):
        if not sweep(backend, problem, partition, penalty, seed=4, number=number):
            break
    else:
        pytest.fail("200 sweeps did not converge")
    labels = [side.tolist() for side in partition.labels]
    now = reference.objective(slow, labels, penalty)
    for side in (0, 1):
        for node, own in enumerate(labels[side]):
            for label in reference.scores(slow, labels, side, node, penalty):
                labels[side][node] = label
                assert reference.objective(slow, labels, penalty) <= now + Fraction(1e-9)
            labels[side][node] = own


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield [count for count in (1, 2, 4) if count <= numba.config.NUMBA_NUM_THREADS]
    numba.set_num_threads(before)


@pytest.mark.parametrize(
    "options",
    [{}, {"gamma": 2.0}, {"solver": "paper", "budget": None, "gamma": 0.5}, {"secondary": "both", "weights": "log"}],
)
def test_same_labels_on_any_number_of_threads(threads, options, monkeypatch):
    assert len(threads) > 1
    monkeypatch.setattr(cpu_tables, "_THREAD_COST", 1000)  # several chunks
    graph = random_graph(9000, 7000, 150_000, seed=8, weighted=True)
    digests = set()
    for count in threads:
        numba.set_num_threads(count)
        for _ in range(2):
            digests.add(BalancedCoclustering(random_state=7, **options).fit(graph).result_.labels_sha256)
    assert len(digests) == 1


def test_another_seed_gives_other_labels():
    graph = random_graph(900, 700, 6000, seed=8)
    digests = {BalancedCoclustering(random_state=seed).fit(graph).result_.labels_sha256 for seed in (1, 2)}
    assert len(digests) == 2
