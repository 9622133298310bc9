"""The multilevel solver: what each stage gains, its schedule, secondary clusters, planted co-clusters found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_solver as reference
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.solve.cocluster import default_gamma
from baco_gpu.clustering.solve.merging import merge_to
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.sweeps import count_rows, singletons, sweep
from baco_gpu.clustering.solve.weights import SCHEMES, integer_weights
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph, reference_of

pytestmark = pytest.mark.heavy("solves many graphs")


class Solver:
    """The pieces of one solve, for looking inside."""

    def __init__(self, graph, gamma, scheme="degree"):
        self.backend = get_backend("cpu")
        self.weights = integer_weights(graph, scheme)
        self.problem = self.backend.load(graph, self.weights)
        self.penalty = gamma * self.weights.penalty_per_gamma
        self.trace = []

    def observe(self, stage, partition):
        self.trace.append((stage, self.objective(partition), self.rows(partition)))

    def objective(self, partition):
        return objective(self.backend, partition.within, partition.volumes, self.penalty, self.weights.unit)

    def rows(self, partition):
        return count_rows(self.backend, partition)

    def multilevel(self, rows, **schedule):
        return multilevel(
            self.backend, self.problem, self.penalty, rows, seed=1, schedule=Schedule(**schedule), observe=self.observe
        )

    def sweeps_and_one_merging(self, rows, sweeps=5):
        partition = singletons(self.backend, self.problem)
        for number in range(sweeps):
            before = partition.copy()
            sweep(self.backend, self.problem, partition, self.penalty, seed=1, number=number)
            if self.rows(partition) < rows:
                partition = before
                break
        return merge_to(self.backend, self.problem, partition, self.penalty, rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [40, 150, 400])
@pytest.mark.parametrize("gamma", [1.0, 8.0, 60.0])
def test_levels_and_refinement_beat_one_merging(gamma, rows, weighted):
    solver = Solver(random_graph(700, 500, 4000, seed=6, weighted=weighted), gamma)
    plain, refined = solver.sweeps_and_one_merging(rows), solver.multilevel(rows)
    assert {solver.rows(plain), solver.rows(refined)} <= {rows - 1, rows}
    assert solver.objective(refined) > solver.objective(plain)


def same_or_higher(before, after, scale):
    return after >= before - 1e-9 * scale


@pytest.mark.parametrize("rows", [None, 2, 60, 300, 1190])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 20.0, 1e4])
def test_the_objective_never_falls_in_a_sweep(rows, gamma):
    solver = Solver(random_graph(700, 500, 4000, seed=6), gamma)
    solver.multilevel(rows)
    scale = max(abs(value) for _, value, _ in solver.trace)
    last = 0.0
    for stage, value, _ in solver.trace:
        assert stage == "merge" or same_or_higher(last, value, scale)
        last = value


@pytest.mark.parametrize("rows", [2, 60, 300])
def test_rows_fall_in_steps_to_the_target_and_refinement_holds_them(rows):
    solver = Solver(random_graph(700, 500, 4000, seed=6), 20.0)
    solver.multilevel(rows, levels=4, refinements=3)
    after_sweeps = [at for stage, _, at in solver.trace if stage == "sweep"][-1]
    merged = [at for stage, _, at in solver.trace if stage == "merge"]
    steps = [round(after_sweeps * (rows / after_sweeps) ** (level / 4)) for level in (1, 2, 3)] + [rows]
    assert all(step - 1 <= at <= step for step, at in zip(steps, merged, strict=True))
    stages = [stage for stage, _, _ in solver.trace]
    assert stages[-16:] == ["merge", "refine", "refine", "refine"] * 4
    for (_, _, before), (stage, _, after) in zip(solver.trace, solver.trace[1:], strict=False):
        assert stage != "refine" or before == after


def test_sweeps_that_fall_below_the_budget_are_undone():
    solver = Solver(random_graph(700, 500, 4000, seed=6), 1.0)
    assert solver.rows(solver.multilevel(None, levels=1)) < 500
    solver.trace.clear()
    assert solver.rows(solver.multilevel(1100)) in (1099, 1100)
    assert all(rows >= 1099 for _, _, rows in solver.trace)


@pytest.mark.parametrize("schedule", [{"sweeps": 0}, {"levels": 1}, {"refinements": 0}, {"sweeps": 60, "levels": 9}])
def test_any_schedule_meets_the_rows(schedule):
    graph = random_graph(700, 500, 4000, seed=6)
    model = BalancedCoclustering(budget=200, **schedule).fit(graph)
    assert model.result_.codebook_rows in (199, 200)
    assert len(model.objective_trace_) <= Schedule(**schedule).stages
    assert model.objective_ == pytest.approx(model.objective_trace_[-1])


def test_each_part_of_the_schedule_pays():
    graph = random_graph(700, 500, 4000, seed=6)

    def value(**schedule):
        fits = [BalancedCoclustering(budget=200, gamma=10.0, random_state=k, **schedule).fit(graph) for k in range(4)]
        return np.mean([model.objective_ for model in fits])

    whole = value()
    assert value(sweeps=0) < whole
    assert value(levels=1) < whole
    assert value(refinements=0) < value(refinements=1) < whole


@given(
    bipartite_graphs(max_side=25, max_edges=120),
    st.sampled_from(SCHEMES),
    st.floats(0, 50),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_without_a_budget_the_objective_never_falls(graph, scheme, gamma, sweeps, levels, refinements):
    model = BalancedCoclustering(
        budget=None, gamma=gamma, weights=scheme, sweeps=sweeps, levels=levels, refinements=refinements
    ).fit(graph)
    trace = np.concatenate(([0.0], model.objective_trace_))  # singletons are worth nothing
    assert (np.diff(trace) >= -1e-9 * np.abs(trace).max() - 1e-12).all()
    assert model.objective_ == pytest.approx(trace[-1], rel=1e-9, abs=1e-9)


def test_without_a_budget_no_merge_is_left_that_gains():
    graph = random_graph(60, 50, 300, seed=3)
    model = BalancedCoclustering(budget=None, refinements=0).fit(graph)
    slow, weights = reference_of(graph)
    labels = [model.row_labels_.tolist(), model.column_labels_.tolist()]
    gains = reference.merge_gains(slow, labels, model.gamma_ * weights.penalty_per_gamma)
    assert gains
    assert max(gains.values()) <= 0


def test_without_a_budget_gamma_is_modularitys():
    graph = random_graph(60, 50, 300, seed=3)
    model = BalancedCoclustering(budget=None).fit(graph)
    assert model.gamma_ == 1.0
    assert BalancedCoclustering(budget=None, gamma=6.0).fit(graph).result_.num_clusters > model.result_.num_clusters


def test_the_default_gamma_grows_with_edges_and_rows():
    graph = random_graph(700, 500, 4000, seed=6)
    assert default_gamma(graph, None, "degree") == 1.0
    assert default_gamma(graph, 2, "degree") == 1.0
    few, many = (default_gamma(graph, rows, "degree") for rows in (10**5, 10**8))
    assert few > 1
    assert many / few == pytest.approx(10)
    edges = graph.to_scipy().tocoo()
    quarter = BipartiteGraph.from_edges(edges.row[::4], edges.col[::4])
    assert default_gamma(quarter, 10**6, "degree") == pytest.approx(default_gamma(graph, 10**6, "degree") / 2, rel=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_default_gamma_prices_volume_alike_under_paper_and_degree(weighted):
    graph = random_graph(700, 500, 4000, seed=6, weighted=weighted)
    results = [
        BalancedCoclustering(budget=300, weights=scheme).fit(graph).result_.labels_sha256
        for scheme in ("paper", "degree")
    ]
    assert results[0] == results[1]


def bijection(found, planted):
    """Whether two labellings are the same up to names: no cluster split, none merged."""
    pairs = set(zip(found.tolist(), planted.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(planted.tolist()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "parameters", [{"budget": 24}, {"budget": None, "gamma": 1.0}, {"budget": 24, "weights": "unit"}]
)
def test_planted_coclusters_are_found_exactly(parameters, seed):
    interactions, users, items = planted_coclusters(600, 480, 9000, 12, noise=0.0, seed=seed)
    model = BalancedCoclustering(random_state=seed, **parameters).fit(interactions)
    assert bijection(np.concatenate([model.row_labels_, model.column_labels_]), np.concatenate([users, items]))


def test_planted_coclusters_are_found_through_noise():
    interactions, users, _ = planted_coclusters(600, 480, 12000, 12, noise=0.2, seed=1)
    model = BalancedCoclustering(budget=24).fit(interactions)
    same = model.row_labels_[:, None] == model.row_labels_[None, :]
    agreement = (same == (users[:, None] == users[None, :])).mean()
    assert agreement > 0.98
    assert model.result_.users.rows == model.result_.items.rows == 12


@pytest.mark.parametrize(
    ("secondary", "sides"), [("none", ()), ("users", ("users",)), ("items", ("items",)), ("both", ("users", "items"))]
)
@pytest.mark.parametrize(
    "parameters", [{"budget": 0.3}, {"budget": None}, {"budget": None, "gamma": 0.4, "solver": "paper"}]
)
def test_secondary_clusters_are_owned_by_others_of_the_side(parameters, secondary, sides):
    graph = random_graph(300, 200, 1500, seed=9)
    result = BalancedCoclustering(secondary=secondary, **parameters).fit(graph).result_
    for name, side, degrees in (
        ("users", result.users, graph.user_degrees),
        ("items", result.items, graph.item_degrees),
    ):
        if name not in sides:
            assert side.secondary is None
            assert side.secondary_indices == 0
            continue
        some = side.secondary != -1
        assert some.sum() == side.secondary_indices > 0
        assert not (side.secondary == side.labels).any()
        assert np.isin(side.secondary[some], side.labels).all()
        assert side.secondary.dtype == side.labels.dtype
        assert not some[degrees == 0].any()


@given(bipartite_graphs(), st.sampled_from(["users", "items", "both"]), st.floats(0, 20), st.integers(2, 30))
def test_secondary_clusters_of_awkward_graphs(graph, secondary, gamma, rows):
    model = BalancedCoclustering(budget=rows, gamma=gamma, secondary=secondary).fit(graph)
    labels = [model.row_labels_.tolist(), model.column_labels_.tolist()]
    slow, weights = reference_of(graph)
    penalty = gamma * weights.penalty_per_gamma
    found = (model.secondary_row_labels_, model.secondary_column_labels_)
    for side, wanted in enumerate((secondary != "items", secondary != "users")):
        if not wanted:
            assert found[side] is None
        else:
            assert found[side].tolist() == reference.second_best(slow, labels, side, penalty)


@pytest.mark.parametrize("weighted", [False, True])
def test_secondary_clusters_are_the_second_best_at_the_gamma_of_the_fit(weighted):
    graph = random_graph(120, 90, 700, seed=3, weighted=weighted)
    model = BalancedCoclustering(budget=60, gamma=8.0, secondary="both").fit(graph)
    labels = [model.row_labels_.tolist(), model.column_labels_.tolist()]
    slow, weights = reference_of(graph)
    for side, found in enumerate((model.secondary_row_labels_, model.secondary_column_labels_)):
        assert found.tolist() == reference.second_best(slow, labels, side, 8.0 * weights.penalty_per_gamma)
        assert found.tolist() != reference.second_best(slow, labels, side, 0.0)


def test_secondary_clusters_change_no_label():
    graph = random_graph(300, 200, 1500, seed=9)
    labels = {
        BalancedCoclustering(budget=150, secondary=secondary).fit(graph).row_labels_.tobytes()
        for secondary in ("none", "users", "items", "both")
    }
    assert len(labels) == 1


def test_labels_are_numbered_without_gaps():
    graph = BipartiteGraph.from_edges([0, 1, 5, 9], [0, 0, 3, 7], num_users=12, num_items=9)
    for budget in (2, 5, 9, None):
        model = BalancedCoclustering(budget=budget).fit(graph)
        used = sorted({*model.row_labels_.tolist(), *model.column_labels_.tolist()})
        assert used == list(range(model.result_.num_clusters))
