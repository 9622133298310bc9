"""A grown graph: the clustering follows it in the rows it has, never to a worse objective, and says who moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu import BalancedCoclustering, BipartiteGraph
from baco_gpu.clustering.solve.weights import SCHEMES
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from graphs import bipartite_graphs, random_graph, reference_of
from reference_solver import objective as reference_objective
from reference_solver import second_best, sweep
from tiers import examples


def fitted(graph, **parameters):
    return BalancedCoclustering(**{"budget": 0.5, "secondary": "both", **parameters}).fit(graph).result_


def first_of(graph, num_users, num_items):
    """What the graph was before its last users and items came."""
    return BipartiteGraph.from_scipy(graph.to_scipy()[:num_users, :num_items])


def owned(result):
    return set(result.users.labels.tolist()), set(result.items.labels.tolist())


@examples(40)
@given(graph=bipartite_graphs(), scheme=st.sampled_from(SCHEMES), seed=st.integers(0, 2))
def test_an_update_sweeps_like_the_slow_solver(graph, scheme, seed):
    result = fitted(graph, budget=None, gamma=0.7, weights=scheme, random_state=seed)
    reference, weights = reference_of(graph, scheme)
    penalty = result.gamma * weights.penalty_per_gamma
    labels = [result.users.labels.tolist(), result.items.labels.tolist()]
    update = result.update(graph, sweeps=1)
    sweep(reference, labels, penalty, seed, 0, hold_rows=True)
    after = update.result
    assert [after.users.labels.tolist(), after.items.labels.tolist()] == labels
    assert [after.users.secondary.tolist(), after.items.secondary.tolist()] == [
        second_best(reference, labels, side, penalty) for side in (0, 1)
    ]
    assert after.objective == pytest.approx(float(reference_objective(reference, labels, penalty)) / weights.unit)
    assert (update.moved_users, update.moved_items) == tuple(
        sum(one != other for one, other in zip(old.labels.tolist(), new, strict=True))
        for old, new in zip((result.users, result.items), labels, strict=True)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_new_nodes_join_in_the_rows_there_are_and_the_objective_never_falls(weighted):
    graph = random_graph(400, 300, 5000, seed=1, weighted=weighted)
    result = fitted(first_of(graph, 350, 280))
    update = result.update(graph)
    assert (update.new_users, update.new_items) == (50, 20)
    assert 0 < update.moved_users < 350
    assert owned(update.result) == owned(result)
    trace = update.result.objective_trace
    assert (np.diff(trace) >= 0).all()
    assert update.result.objective == trace[-1]
    assert update.result.graph_checksum == graph.checksum()
    assert update.result.num_edges == graph.num_edges
    assert (update.result.users.degrees == graph.user_degrees).all()


def test_an_update_begins_with_what_assign_says():
    graph = random_graph(200, 150, 2500, seed=3)
    result = fitted(first_of(graph, 199, 150))
    update = result.update(graph, sweeps=0)
    assert update[1:] == (0, 0, 1, 0)
    assert (update.result.users.labels[:199] == result.users.labels).all()
    assert len(update.result.objective_trace) == 1


def test_a_graph_that_stays_as_it_is_comes_to_rest():
    result = fitted(random_graph(200, 150, 2500, seed=4))
    update = result.update(random_graph(200, 150, 2500, seed=4), sweeps=200)
    again = update.result.update(random_graph(200, 150, 2500, seed=4), sweeps=200)
    assert len(update.result.objective_trace) < 200
    assert again.result.objective >= update.result.objective >= result.objective


def test_the_same_growth_gives_the_same_update():
    graph = random_graph(400, 300, 5000, seed=5)
    first, second = (fitted(first_of(graph, 350, 280)).update(graph) for _ in range(2))
    assert first.result.labels_sha256 == second.result.labels_sha256
    assert first[1:] == second[1:]


def test_old_ids_are_found_by_name_and_keep_their_labels_where_they_are_gone():
    plain = random_graph(60, 40, 500, seed=6)
    graph = BipartiteGraph(plain.csr, plain.csc, Vocabulary([f"u{k:02}" for k in range(60)]), Vocabulary(np.arange(40)))
    result = fitted(graph)
    update = result.update((["u00a", "u01"], [3, 3]), sweeps=1)
    grown = update.result
    assert (update.new_users, update.new_items) == (1, 0)
    assert len(grown.users) == 61
    silent = [f"u{k:02}" for k in range(60) if k != 1]
    assert (grown.users.label_of(silent) == result.users.label_of(silent)).all()


def test_planted_newcomers_find_their_co_cluster():
    interactions, planted, _ = planted_coclusters(400, 300, 6000, 8, seed=0)
    graph = BipartiteGraph.from_interactions(interactions)
    result = fitted(first_of(graph, 370, 300), budget=16, secondary="none")
    assert owned(result) == (set(range(8)), set(range(8)))
    # Which label the old users of a planted co-cluster have, most of them.
    votes = np.zeros((8, 8), int)
    np.add.at(votes, (planted[:370], result.users.labels), 1)
    wanted = votes.argmax(axis=1)[planted[370:]]
    for grown in (result.update(graph).result, result.assign(graph, fallback="largest")):
        assert np.mean(grown.users.labels[370:] == wanted) > 0.9


def test_what_cannot_be_an_update_is_refused():
    result = fitted(random_graph(60, 40, 500, seed=7))
    with pytest.raises(InputError, match="sweeps must be an integer from 0 to 1000, got -1"):
        result.update(([60], [3]), sweeps=-1)
    with pytest.raises(InputError, match="backend must be one of"):
        result.update(([60], [3]), backend="tpu")
    with pytest.raises(InputError, match="a graph must be"):
        result.update(7)
