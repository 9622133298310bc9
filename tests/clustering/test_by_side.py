"""A number of rows for users and one for items: each is met to the row, the same everywhere, and well spent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.inspect.coverage import coverage
from baco_gpu.clustering.solve.by_side import joined
from baco_gpu.clustering.solve.cocluster import reaches_of
from baco_gpu.clustering.solve.merging import merge_to
from baco_gpu.clustering.solve.sweeps import rows_by_side, singletons
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph

pytestmark = pytest.mark.heavy("solves many graphs")


def solve(graph, users, items, **parameters):
    return BalancedCoclustering(budget={"users": users, "items": items}, **parameters).fit(graph).result_


@pytest.mark.parametrize(
    ("users", "items"), [(100, 100), (300, 20), (20, 300), (1, 1), (1, 300), (600, 2), (10**6, 50), (10**6, 10**6)]
)
def test_rows_are_met_exactly_on_each_side(users, items):
    graph = random_graph(700, 500, 4000, seed=6)
    most = [reach.most for reach in reaches_of(graph, (0, 0))]
    result = solve(graph, users, items, secondary="none")
    assert (result.users.rows, result.items.rows) == (min(users, most[0]), min(items, most[1]))


@given(bipartite_graphs(max_side=20, max_edges=90), st.integers(1, 22), st.integers(1, 22), st.floats(0, 20))
def test_rows_of_awkward_graphs(graph, users, items, gamma):
    result = solve(graph, users, items, gamma=gamma, secondary="both")
    for side, wanted, reach in zip(
        (result.users, result.items), (users, items), reaches_of(graph, (1, 1)), strict=True
    ):
        assert side.rows == min(wanted, reach.most)
        some = side.secondary != -1
        assert np.isin(side.secondary[some], side.labels).all()
        assert (side.secondary[some] != side.labels[some]).all()
    used = sorted({*result.users.labels.tolist(), *result.items.labels.tolist()})
    assert used == list(range(result.num_clusters))
    assert [len(volumes) for volumes in result.volumes] == [result.num_clusters] * 2


@pytest.mark.parametrize("target", [(40, 25), (None, 25), (40, None), (3, 90)])
def test_merging_ends_at_the_first_side_that_is_met(target):
    graph = random_graph(120, 100, 700, seed=2)
    backend, weights = get_backend("cpu"), integer_weights(graph)
    problem = backend.load(graph, weights)
    partition = merge_to(backend, problem, singletons(backend, problem), weights.penalty_per_gamma, target)
    rows = rows_by_side(backend, partition)
    asked = [(count, wanted) for count, wanted in zip(rows, target, strict=True) if wanted is not None]
    assert any(count == wanted for count, wanted in asked)
    assert all(count >= wanted for count, wanted in asked)


@pytest.mark.parametrize("measure", ["parameters", "bytes"])
@pytest.mark.parametrize("secondary", ["none", "users", "both"])
def test_shares_are_of_each_sides_own_table(measure, secondary):
    graph = random_graph(700, 500, 4000, seed=6)
    shares = {"users": 0.2, "items": 0.5}
    result = solve(graph, **shares, secondary=secondary, budget_measure=measure, embedding_dim=16)
    for name, side in (("users", result.users), ("items", result.items)):
        table = result.table.of_side(name)
        slots = len(side) * (side.secondary is not None)
        cost, full, row = {
            "parameters": (
                table.compressed_parameters(side.rows, side.secondary_indices),
                table.full_parameters,
                table.embedding_dim,
            ),
            "bytes": (table.compressed_bytes(side.rows, slots), table.full_bytes, table.row_bytes),
        }[measure]
        assert cost <= shares[name] * full < 1.02 * cost + row


def test_a_side_without_a_number_has_the_rows_that_come():
    graph = random_graph(700, 500, 4000, seed=6)
    result = solve(graph, None, 50)
    assert result.items.rows == 50
    assert 2 <= result.users.rows < 700


def test_the_rows_of_one_number_are_worth_as_much_side_by_side():
    graph = random_graph(700, 500, 4000, seed=6)
    whole = BalancedCoclustering(budget=200).fit(graph).result_
    apart = solve(graph, whole.users.rows, whole.items.rows)
    assert apart.objective > 0.98 * whole.objective


def test_planted_coclusters_are_found_on_the_side_that_has_the_rows():
    interactions, _, items = planted_coclusters(600, 480, 9000, 12, noise=0.0, seed=1)
    result = solve(interactions, 200, 12)
    pairs = set(zip(result.items.labels.tolist(), items.tolist(), strict=True))
    assert len(pairs) == 12
    # And every planted co-cluster of items is still one of users, too, under the same label.
    assert np.isin(result.items.labels, result.users.labels).all()


def test_one_partition_for_both_sides_stays_as_it_is():
    graph = random_graph(60, 50, 300, seed=3)
    backend, weights = get_backend("cpu"), integer_weights(graph)
    problem = backend.load(graph, weights)
    partition = singletons(backend, problem)
    assert joined(backend, problem, (partition, partition), (None, None)) == (partition, (None, None))


def test_a_result_is_saved_and_takes_new_nodes(tmp_path):
    graph = random_graph(120, 90, 700, seed=3)
    result = solve(graph, 60, 20, secondary="both")
    loaded = CoclusteringResult.load(result.save(tmp_path / "codes.safetensors"))
    assert loaded.settings["budget"] == {"users": 60, "items": 20}
    assert loaded.labels_sha256 == result.labels_sha256
    edges = graph.to_scipy().tocoo()
    grown = (np.append(edges.row, 120), np.append(edges.col, edges.col[0]))
    assigned = loaded.assign(grown)
    assert assigned.users.labels[120] in result.users.labels
    updated = loaded.update(grown, sweeps=0)
    assert updated[1:] == (0, 0, 1, 0)
    assert (updated.result.users.labels[:120] == result.users.labels).all()
    assert updated.result.users.labels[120] in result.users.labels
    assert result.objective == pytest.approx(result.objective_trace[-1])


@pytest.mark.parametrize("rows", [(120, 150), (300, 30), (30, 240)])
def test_an_update_sweeps_each_side_in_its_own_rows(rows):
    interactions, _, _ = planted_coclusters(600, 300, 9000, 12, noise=0.2, seed=0)
    matrix = BipartiteGraph.from_interactions(interactions).to_scipy()
    before, after = BipartiteGraph.from_scipy(matrix[:540, :285]), BipartiteGraph.from_scipy(matrix)
    result = solve(before, *rows)
    same, grown, again = (result.update(graph) for graph in (before, after, after))
    # A graph that stays as it is moves few, and to where more of it is inside.
    assert same.moved_users + same.moved_items < 0.05 * 825
    assert coverage(same.result, before).primary >= coverage(result, before).primary
    assert (grown.new_users, grown.new_items) == (60, 15)
    assert grown.result.labels_sha256 == again.result.labels_sha256
    # And what has grown is as much inside as if it were clustered anew.
    assert coverage(grown.result, after).primary > 0.9 * coverage(solve(after, *rows), after).primary
    for old, new in ((result.users, grown.result.users), (result.items, grown.result.items)):
        assert set(new.labels.tolist()) == set(old.labels.tolist())
        if new.secondary is not None:
            assert set(new.secondary.tolist()) <= {-1, *old.labels.tolist()}
    assert grown.result.objective == grown.result.objective_trace[-1]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"users": 5}, "budget by side must have a number for 'users' and one for 'items', got {'users': 5}"),
        ({"users": None, "items": None}, "budget by side must have a number"),
        ({"users": 5, "items": 4, "tags": 3}, "budget by side must have a number"),
        ({"users": 5, "items": 0}, "budget of items: budget in codebook rows must be an integer at least 1, got 0"),
        ({"users": 1.5, "items": 4}, "budget of users: budget must be a finite number above 0"),
        ({"users": "5", "items": 4}, "budget of users: budget must be a finite number above 0 and at most 1, got '5'"),
    ],
)
def test_budgets_by_side_that_are_none(budget, message):
    with pytest.raises(InputError, match=f"^{message}"):
        BalancedCoclustering(budget=budget).fit(random_graph(30, 20, 90, seed=1))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "paper"}, "budget must be one number for solver='paper'"),
        ({"codebooks": "shared"}, "budget must be one number for codebooks='shared'"),
    ],
)
def test_solvers_of_one_number_say_so(parameters, message):
    with pytest.raises(InputError, match=f"^{message}"):
        solve(random_graph(30, 20, 90, seed=1), 5, 4, **parameters)


def test_what_cannot_be_met_names_the_range():
    graph = random_graph(30, 20, 90, seed=1)
    message = r"^budget of items of 0.001 of the full table's parameters is below what this graph can reach: 0.05 \(1 "
    with pytest.raises(UnreachableBudgetError, match=message):
        solve(graph, 5, 0.001)
