"""Integer weights: each scheme by hand, exactness, what scaling changes, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.solve.weights import SCHEMES, integer_weights
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph

pytestmark = pytest.mark.heavy("solves many graphs")

EDGES = ([0, 0, 0, 1], [0, 1, 2, 1])  # degrees 3, 1, 0 and 1, 2, 1


@pytest.fixture
def small():
    return BipartiteGraph.from_edges(*EDGES, num_users=3)


def real_node_weights(weights):
    return tuple(side / weights.node_unit for side in weights.nodes)


def objective_of_one_cluster(graph, weights, gamma):
    within = graph.num_edges if weights.edges[0] is None else int(weights.edges[0].sum())
    users, items = (int(side.sum()) for side in weights.nodes)
    return (within - gamma * weights.penalty_per_gamma * users * items) / weights.unit


@pytest.mark.parametrize(
    ("scheme", "users", "items"),
    [
        ("degree", [3, 1, 0], [1, 2, 1]),
        ("paper", [3, 1, 0], [1, 2, 1]),
        ("unit", [1, 1, 0], [1, 1, 1]),
        ("sqrt", [math.sqrt(3), 1, 0], [1, math.sqrt(2), 1]),
        ("log", [math.log(4), math.log(2), 0], [math.log(2), math.log(3), math.log(2)]),
    ],
)
def test_node_weights_by_hand(small, scheme, users, items):
    weights = integer_weights(small, scheme)
    assert weights.edges == (None, None)
    assert weights.unit == 1
    measured_users, measured_items = real_node_weights(weights)
    tolerance = 0 if scheme in ("degree", "paper", "unit") else 1e-12
    assert measured_users == pytest.approx(users, rel=tolerance)
    assert measured_items == pytest.approx(items, rel=tolerance)


def test_weighted_degrees_follow_the_edges_of_each_side():
    graph = BipartiteGraph.from_edges(*EDGES, [5, 1, 2, 7], num_users=3)
    weights = integer_weights(graph, "degree")
    assert weights.unit == 1
    assert weights.edges[0].tolist() == [5, 1, 2, 7]  # by user, then item
    assert weights.edges[1].tolist() == [5, 1, 7, 2]  # by item, then user
    assert [side.tolist() for side in weights.nodes] == [[8, 7, 0], [5, 8, 2]]
    assert [side.tolist() for side in integer_weights(graph, "unit").nodes] == [[1, 1, 0], [1, 1, 1]]
    assert real_node_weights(integer_weights(graph, "sqrt"))[0] == pytest.approx([math.sqrt(8), math.sqrt(7), 0])


@pytest.mark.parametrize("scheme", ["degree", "sqrt", "log", "unit"])
@pytest.mark.parametrize("weighted", [False, True])
def test_at_gamma_one_a_single_cluster_is_worth_nothing(scheme, weighted):
    graph = random_graph(40, 30, 200, seed=1, weighted=weighted)
    weights = integer_weights(graph, scheme)
    assert objective_of_one_cluster(graph, weights, 1.0) == pytest.approx(0, abs=1e-9)
    assert objective_of_one_cluster(graph, weights, 0.5) == pytest.approx(graph.to_scipy().sum() / 2)


@pytest.mark.parametrize("weights", [None, [2.0, 1.5, 0.25, 3.0]])
def test_paper_is_barbers_modularity_at_another_resolution(weights):
    graph = BipartiteGraph.from_edges(*EDGES, weights, num_users=3)
    total = graph.to_scipy().sum()
    paper, degree = integer_weights(graph, "paper"), integer_weights(graph, "degree")
    gamma = 0.13
    resolution = gamma * math.sqrt(total / graph.num_items)
    assert gamma * paper.penalty_per_gamma == pytest.approx(resolution * degree.penalty_per_gamma)
    assert np.array_equal(paper.nodes[0], degree.nodes[0])
    # And from the published definition, w_u = d_u / sqrt(|E|) and w_i = d_i / sqrt(n).
    w_users = graph.to_scipy().sum(axis=1) / math.sqrt(total)
    w_items = graph.to_scipy().sum(axis=0) / math.sqrt(graph.num_items)
    expected = total - gamma * w_users.sum() * w_items.sum()
    assert objective_of_one_cluster(graph, paper, gamma) == pytest.approx(expected)


@given(bipartite_graphs(), st.sampled_from(SCHEMES))
def test_weights_are_exact_integers(graph, scheme):
    weights = integer_weights(graph, scheme)
    assert math.frexp(weights.unit)[0] == 0.5  # a power of two
    assert math.frexp(weights.node_unit)[0] == 0.5
    assert weights.penalty_per_gamma >= 0
    for side in weights.nodes:
        assert side.dtype == np.int64
        assert sum(side.tolist()) < 2**52
    assert (weights.nodes[0] > 0).tolist() == (graph.user_degrees > 0).tolist()
    assert (weights.nodes[1] > 0).tolist() == (graph.item_degrees > 0).tolist()
    if graph.csr.weights is None or not graph.num_edges:
        assert weights.edges == (None, None)
        return
    for integers, values in zip(weights.edges, (graph.csr.weights, graph.csc.weights), strict=True):
        assert integers.dtype == np.int64
        assert integers.min() > 0
        assert sum(integers.tolist()) < 2**52
        assert np.abs(integers / weights.unit - values).max() <= 0.5 / weights.unit
    if (graph.csr.weights == np.rint(graph.csr.weights)).all():
        assert weights.unit == 1


def test_fractions_use_all_the_precision_there_is():
    graph = BipartiteGraph.from_edges([0, 1, 2], [0, 1, 2], [0.1, 0.2, 0.7])
    weights = integer_weights(graph)
    assert 2**50 <= weights.edges[0].sum() < 2**52
    assert weights.edges[0] / weights.unit == pytest.approx([0.1, 0.2, 0.7], rel=1e-14)


def test_integers_beyond_exact_sums_are_rounded():
    graph = BipartiteGraph.from_edges([0, 1], [0, 1], [2.0**60, 2.0**60 + 2**20])
    weights = integer_weights(graph)
    assert weights.unit < 1
    assert sum(weights.edges[0].tolist()) < 2**52
    assert weights.edges[0] / weights.unit == pytest.approx(graph.csr.weights, rel=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(0, 0), (4, 0), (0, 4), (3, 5)])
def test_graphs_without_edges(scheme, shape):
    empty = np.empty(0, np.int64)
    graph = BipartiteGraph.from_edges(empty, empty, num_users=shape[0], num_items=shape[1])
    weights = integer_weights(graph, scheme)
    assert weights.penalty_per_gamma == 0
    assert [side.tolist() for side in weights.nodes] == [[0] * shape[0], [0] * shape[1]]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_uneven_weights_are_refused(scheme):
    graph = BipartiteGraph.from_edges([0, 1], [0, 1], [1e-9, 1e9])
    with pytest.raises(InputError, match=r"edge weights must be at least 2\*\*-52 of their sum, got 1e-09") as caught:
        integer_weights(graph, scheme)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1e300, 5e-324, 1e-290])
def test_weights_at_the_ends_of_float64_are_refused(value):
    graph = BipartiteGraph.from_edges([0, 1], [0, 1], [value, value])
    with pytest.raises(InputError, match=r"edge weights must sum to between"):
        integer_weights(graph)


def test_sums_beyond_float64_are_refused():
    graph = BipartiteGraph.from_edges([0, 1, 2], [0, 1, 2], [1.7e308] * 3)
    with pytest.raises(InputError, match=r"edge weights must sum to between"):
        integer_weights(graph)


def labels(graph, scheme):
    return BalancedCoclustering(budget=0.4, gamma=1.5, weights=scheme, secondary="both").fit(graph).result_


def scaled(graph, factor):
    users = np.repeat(np.arange(graph.num_users), graph.user_degrees)
    values = np.ones(graph.num_edges) if graph.csr.weights is None else graph.csr.weights
    return BipartiteGraph.from_edges(
        users, graph.csr.neighbors, values * factor, num_users=graph.num_users, num_items=graph.num_items
    )


@pytest.mark.parametrize("scheme", ["degree", "unit"])
@pytest.mark.parametrize("exponent", [-300, -40, -1, 1, 3, 50, 400])
@pytest.mark.parametrize("kind", ["ones", "integers", "fractions"])
def test_scaling_all_edges_by_a_power_of_two_leaves_the_labels(scheme, exponent, kind):
    graph = random_graph(60, 50, 260, seed=4, weighted=kind == "integers")
    if kind == "fractions":
        graph = scaled(graph, np.random.default_rng(0).random(graph.num_edges) + 0.01)
    before, after = labels(graph, scheme), labels(scaled(graph, 2.0**exponent), scheme)
    assert after.labels_sha256 == before.labels_sha256
    assert after.objective == pytest.approx(math.ldexp(before.objective, exponent), rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_weights_one_is_no_weights(scheme):
    graph = random_graph(60, 50, 260, seed=5)
    assert graph.csr.weights is None
    assert labels(scaled(graph, 1.0), scheme).labels_sha256 == labels(graph, scheme).labels_sha256


def test_schemes_lead_to_different_labels():
    graph = random_graph(60, 50, 260, seed=5)
    assert len({labels(graph, scheme).labels_sha256 for scheme in SCHEMES}) == len(SCHEMES)


def test_an_unknown_scheme_names_the_known_ones(small):
    with pytest.raises(InputError, match="weights must be one of 'degree', 'sqrt', 'log', 'unit', 'paper', got 'cpm'"):
        integer_weights(small, "cpm")
