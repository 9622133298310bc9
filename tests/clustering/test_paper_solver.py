"""The published schedule: its figures on real data, the search for gamma, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import reference_solver as reference
from baco_gpu.clustering.solve.paper import PUBLISHED_SWEEPS, search_gamma
from baco_gpu.data.readers import load_split
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import random_graph, reference_of

pytestmark = pytest.mark.heavy("solves many graphs")


def solve(graph, **parameters):
    return BalancedCoclustering(solver="paper", **parameters).fit(graph)


@pytest.fixture(scope="module")
def graph():
    return random_graph(700, 500, 4000, seed=6)


@pytest.mark.real_data
def test_the_published_gamma_meets_the_published_budget(real_data):
    beauty = BipartiteGraph.from_interactions(load_split(real_data / "beauty.npz").train)
    result = solve(beauty, gamma=0.13, budget=None).result_
    spent = result.parameters_compressed / result.embedding_dim  # 9000 rows were published
    assert 0.97 * 9000 <= spent <= 1.03 * 9000
    assert result.users.secondary_indices > beauty.num_users / 2


@pytest.mark.real_data
def test_the_published_budget_is_met_by_search(real_data):
    beauty = BipartiteGraph.from_interactions(load_split(real_data / "beauty.npz").train)
    model = solve(beauty, budget=9000)
    assert 0.99 * 9000 <= model.result_.codebook_rows <= 9000
    assert model.gamma_ == pytest.approx(0.13, rel=0.3)


def test_the_schedule_is_five_sweeps_of_the_definition():
    graph = random_graph(40, 30, 200, seed=2)
    slow, weights = reference_of(graph, "paper")
    penalty = 0.7 * weights.penalty_per_gamma
    labels = reference.singletons(slow)
    for number in range(PUBLISHED_SWEEPS):
        reference.sweep(slow, labels, penalty, 11, number)
    labels = reference.compacted(labels)
    model = solve(graph, gamma=0.7, budget=None, random_state=11, secondary="both")
    assert [model.row_labels_.tolist(), model.column_labels_.tolist()] == labels
    assert model.secondary_row_labels_.tolist() == reference.second_best(slow, labels, 0, penalty)
    assert model.secondary_column_labels_.tolist() == reference.second_best(slow, labels, 1, penalty)


@pytest.mark.parametrize("sweeps", [0, 1, 3, 50])
def test_sweeps_are_counted_and_stop_when_nothing_moves(graph, sweeps):
    trace = solve(graph, gamma=0.5, budget=None, sweeps=sweeps).objective_trace_
    assert len(trace) == sweeps or (len(trace) < sweeps and trace[-1] == trace[-2])
    assert (np.diff(trace) >= -1e-9 * np.abs(trace).max(initial=0)).all()


@pytest.mark.parametrize("ratio", [0.4, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("secondary", ["none", "users", "both"])
@pytest.mark.parametrize("measure", ["parameters", "bytes"])
def test_the_search_lands_just_under_the_budget(graph, ratio, secondary, measure):
    result = solve(graph, budget=ratio, secondary=secondary, budget_measure=measure).result_
    summary = result.summary()
    assert 0.97 * ratio <= summary[f"{measure}_compressed"] / summary[f"{measure}_full"] <= ratio


@pytest.mark.parametrize("rows", [500, 601, 1199])
def test_the_search_lands_just_under_the_rows(graph, rows):
    model = solve(graph, budget=rows)
    assert 0.97 * rows <= model.result_.codebook_rows <= rows
    # The gamma found can be typed in again, and gives the same.
    again = solve(graph, budget=None, gamma=model.gamma_)
    assert again.result_.labels_sha256 == model.result_.labels_sha256


def test_where_the_rows_jump_the_search_stays_below(graph):
    model = solve(graph, budget=300)
    assert model.result_.codebook_rows <= 300
    assert solve(graph, budget=None, gamma=model.gamma_ * 1.01).result_.codebook_rows > 300


def test_more_rows_than_there_are_leave_singletons(graph):
    lone = sum((degrees == 0).sum() for degrees in (graph.user_degrees, graph.item_degrees))
    sides = sum((degrees == 0).any() for degrees in (graph.user_degrees, graph.item_degrees))
    assert solve(graph, budget=10**6).result_.codebook_rows == 1200 - lone + sides


def test_a_budget_that_sweeps_cannot_reach_is_refused():
    pairs = np.arange(50)  # sweeps never join two components
    graph = BipartiteGraph.from_edges(pairs, pairs)
    assert solve(graph, budget=100).result_.codebook_rows == 100
    with pytest.raises(InputError, match=r"budget of 99 codebook rows .* 100 to 100 rows .*solver='multilevel'"):
        solve(graph, budget=99)


@pytest.mark.parametrize("parameters", [{}, {"gamma": 0.5}, {"gamma": None, "budget": None}])
def test_just_one_of_gamma_and_budget_is_asked_for(graph, parameters):
    if not parameters:
        assert solve(graph).result_.codebook_rows > 0  # the default budget
        return
    with pytest.raises(
        InputError, match=r"solver='paper' .*give either gamma with budget=None, or budget and no gamma"
    ):
        solve(graph, **parameters)


def test_published_weights_are_the_default(graph):
    default = solve(graph, gamma=0.5, budget=None).result_
    assert default.labels_sha256 == solve(graph, gamma=0.5, budget=None, weights="paper").result_.labels_sha256
    assert default.labels_sha256 != solve(graph, gamma=0.5, budget=None, weights="degree").result_.labels_sha256
    assert BalancedCoclustering(solver="paper").weights is None  # scikit-learn: parameters stay as given


class TestSearchGamma:
    def count(self, rows_at, target):
        gammas = []

        def recorded(gamma):
            gammas.append(gamma)
            return rows_at(gamma)

        return search_gamma(recorded, target), gammas

    def test_finds_the_step_from_below(self):
        gamma, tried = self.count(lambda gamma: min(1000, int(100 * gamma**0.5) + 2), 500)
        rows = min(1000, int(100 * gamma**0.5) + 2)
        assert 499 <= rows <= 500
        assert len(tried) <= 12

    def test_takes_the_best_below_a_jump(self):
        gamma, tried = self.count(lambda gamma: 10 if gamma < 3 else 900, 500)
        assert 2.99 < gamma < 3
        assert len(tried) <= 25

    @pytest.mark.parametrize("target", [10, 57, 300, 1000, 5000])
    def test_never_returns_more_rows_than_asked_for(self, target):
        def uneven(gamma):  # nearly monotone
            return 10 + int(min(990, 100 * gamma**0.4 * (1 + 0.05 * np.sin(40 * np.log(gamma)))))

        gamma, _ = self.count(uneven, target)
        assert uneven(gamma) <= target

    def test_names_what_can_be_reached(self):
        with pytest.raises(InputError, match=r"budget of 9 codebook rows .* they reach 10 to 900 rows"):
            self.count(lambda gamma: 10 if gamma < 3 else 900, 9)
