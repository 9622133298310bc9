"""Baselines: the right answer on graphs that have one, no more rows than allowed, the same result every time."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, homogeneity_score, mutual_info_score

from baco_gpu.budget import Budget, TableSize
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import deal_rows, rows_of
from baco_gpu.methods.labelled import Labelled, sides_of
from baco_gpu.methods.registry import METHODS, find_method, former_names
from graphs import random_graph
from tiers import full

pytestmark = pytest.mark.heavy("solves many graphs")

BLOCKS, BLOCK_USERS, BLOCK_ITEMS = 4, 10, 10

BASELINES = {method.name: method for method in METHODS if isinstance(method, Labelled)}
SOLVED = list(BASELINES)
TO_BUDGET = [name for name in SOLVED if BASELINES[name].size == "budget"]
OWN_SIZE = [name for name in SOLVED if BASELINES[name].size == "own"]
COCLUSTERINGS = [name for name in SOLVED if BASELINES[name].secondary is not None]
# They take the rows that a graph of blocks has, two a block, and have to find the blocks.
FIND_BLOCKS = [*(name for name in COCLUSTERINGS if name != "ebmd"), "legcf", "lsh", "itcc", "spectral-bi"]


@pytest.fixture(scope="module")
def blocks():
    """Disjoint blocks, in each of which every user has every item."""
    users, items = np.meshgrid(np.arange(BLOCKS * BLOCK_USERS), np.arange(BLOCKS * BLOCK_ITEMS), indexing="ij")
    within = users // BLOCK_USERS == items // BLOCK_ITEMS
    return BipartiteGraph.from_edges(users[within], items[within])


@pytest.fixture(scope="module")
def uneven():
    """Random edges of uneven degrees, with nodes that have none."""
    edges = random_graph(390, 290, 3000, seed=2).to_scipy().tocoo()
    return BipartiteGraph.from_edges(edges.row, edges.col, num_users=400, num_items=300)


@functools.cache
def assigned(name, graph, budget, seed=0):
    """What tests that only look share: a search for a budget solves up to two dozen times."""
    return assign(name, graph, budget, seed)


def assign(name, graph, budget, seed=0, dim=8):
    method = find_method(name)
    if method.requires is not None:
        pytest.importorskip(method.requires.module)
    table = TableSize(graph.num_users, graph.num_items, dim)
    return method.assign(graph, Budget.of(budget), table, seed)


def cost(name, sides, table):
    weights = find_method(name).weights * table.full_rows
    return table.compressed_parameters(rows_of(sides), sum(side.secondary_indices for side in sides) + weights)


@pytest.mark.parametrize("name", FIND_BLOCKS)
def test_clusterings_find_separate_blocks(blocks, name):
    users, items = assign(name, blocks, 2 * BLOCKS)
    assert adjusted_rand_score(np.arange(len(users)) // BLOCK_USERS, users.labels) == 1.0
    assert adjusted_rand_score(np.arange(len(items)) // BLOCK_ITEMS, items.labels) == 1.0


@pytest.mark.parametrize("name", [name for name in FIND_BLOCKS if name in COCLUSTERINGS])
def test_coclusterings_give_a_block_one_label(blocks, name):
    users, items = assign(name, blocks, 2 * BLOCKS)
    assert np.array_equal(users.labels[::BLOCK_USERS], items.labels[::BLOCK_ITEMS])


def test_modularity_density_comes_to_rest_at_parts_of_blocks(blocks):
    """All parts of a complete block are as dense as the whole, so that nothing makes it join them."""
    users, items = assign("ebmd", blocks, 6 * BLOCKS)
    for side, size in ((users, BLOCK_USERS), (items, BLOCK_ITEMS)):
        assert homogeneity_score(np.arange(len(side)) // size, side.labels) == pytest.approx(1.0)


@pytest.mark.parametrize("budget", [0.4, 200])
@pytest.mark.parametrize("name", [*TO_BUDGET, *(f"{name}:both" for name in COCLUSTERINGS if name in TO_BUDGET)])
def test_every_method_spends_its_budget_and_no_more(uneven, name, budget):
    sides = assigned(name, uneven, budget)
    table = TableSize(uneven.num_users, uneven.num_items, 8)
    assert [len(side) for side in sides] == [400, 300]
    if isinstance(budget, int):
        assert 0.9 * budget <= rows_of(sides) <= budget
    else:
        assert 0.9 * budget * table.full_parameters <= cost(name, sides, table) <= budget * table.full_parameters


@pytest.mark.parametrize("name", SOLVED)
def test_every_method_repeats(uneven, name):
    seed = full(3, 0)
    first, second = full(assign, assigned)(name, uneven, 0.4, seed), assign(name, uneven, 0.4, seed)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert (one.secondary is None) == (other.secondary is None)
        assert one.secondary is None or np.array_equal(one.secondary, other.secondary)


@pytest.mark.parametrize("name", [name for name in SOLVED if BASELINES[name].family == "hashing"])
def test_the_seed_of_a_hashing_matters(uneven, name):
    first, second = (assign(name, uneven, 0.4, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first[0].labels, second[0].labels)


@pytest.mark.parametrize("name", [*TO_BUDGET, *(f"{name}:users" for name in COCLUSTERINGS if name in TO_BUDGET)])
def test_secondary_labels_are_other_labels_of_the_same_side(uneven, name):
    for side in assigned(name, uneven, 0.4):
        if side.secondary is not None:
            has = side.secondary != NO_LABEL
            assert has.any()
            assert (side.secondary[has] != side.labels[has]).all()
            assert np.isin(side.secondary[has], side.labels).all()


def test_frequent_nodes_have_rows_of_their_own(uneven):
    for name in ("frequency", "hybrid"):
        users, _ = assign(name, uneven, 100)
        alone = np.bincount(users.labels)[users.labels] == 1
        frequent = np.argsort(-np.asarray(uneven.user_degrees), kind="stable")[:20]
        assert alone[frequent].all()
        assert users.secondary is None or (users.secondary[frequent] == NO_LABEL).all()


@pytest.mark.parametrize(
    ("sizes", "rows", "dealt"),
    [((900, 300), 400, (300, 100)), ((5, 1000), 12, (1, 11)), ((1000, 5), 2, (1, 1)), ((0, 50), 7, (0, 7))],
)
def test_rows_are_dealt_in_proportion(sizes, rows, dealt):
    assert deal_rows(sizes, rows) == dealt


def test_a_side_gets_no_more_rows_than_it_has_nodes():
    assert deal_rows((10, 3), 12) == (9, 3)
    assert deal_rows((10, 3), 13) == (10, 3)
    assert deal_rows((10, 3), 20) == (10, 3)


def test_rows_must_be_one_for_each_side():
    with pytest.raises(InputError, match="rows must be at least 2, one for each side, got 1"):
        deal_rows((10, 10), 1)


def test_nodes_without_an_edge_share_a_row(uneven):
    users, _ = assign("propagation", uneven, 200)
    idle = np.asarray(uneven.user_degrees) == 0
    assert idle.sum() > 1
    assert len(np.unique(users.labels[idle])) == 1


def test_budgets_out_of_reach_are_refused():
    islands = BipartiteGraph.from_edges(np.arange(50), np.arange(50))
    with pytest.raises(InputError, match="louvain reaches no partition of at most 90 codebook rows"):
        assign("louvain", islands, 90)
    with pytest.raises(InputError, match="propagation comes to rest at 100 codebook rows on this graph, expected at"):
        assign("propagation", islands, 90)


@pytest.mark.parametrize("name", OWN_SIZE)
def test_methods_of_their_own_size_take_no_notice_of_the_budget(uneven, name):
    small, large = (assign(name, uneven, budget) for budget in (0.1, 0.9))
    assert all(np.array_equal(one.labels, other.labels) for one, other in zip(small, large, strict=True))


@pytest.mark.parametrize("name", OWN_SIZE)
def test_a_graph_without_edges_is_one_cluster(name):
    users, items = assign(name, BipartiteGraph.from_edges([], [], num_users=4, num_items=3), 5)
    assert (users.rows, items.rows) == (1, 1)


def test_brim_does_not_lower_modularity(uneven):
    from baco_gpu.methods.brim import _induce

    matrix = uneven.to_scipy()
    modularity, users, items = _induce(matrix, 8, seed=0)
    degrees = matrix.sum(axis=1), matrix.sum(axis=0)
    same = users[:, None] == items[None, :]
    expected = np.outer(*degrees) / matrix.sum()
    assert modularity == pytest.approx(float(((matrix.toarray() - expected) * same).sum() / matrix.sum()))
    assert modularity > 0.1


def information(graph, users, items):
    """Of the clusters of an edge's ends, on a dense matrix."""
    weights = graph.to_scipy().toarray()
    joint = np.zeros((1 + users.max(), 1 + items.max()))
    np.add.at(joint, (users[:, None], items[None, :]), weights / weights.sum())
    expected = np.outer(joint.sum(1), joint.sum(0))
    return float((joint[joint > 0] * np.log(joint[joint > 0] / expected[joint > 0])).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_no_node_that_itcc_moves_alone_keeps_more_information(weighted):
    graph = random_graph(30, 20, 200, seed=1, weighted=weighted)
    users, items = (np.asarray(side.labels) for side in assign("itcc", graph, 13))
    most = information(graph, users, items)
    for labels in (users, items):
        for node in range(len(labels)):
            own = labels[node]
            for other in range(labels.max() + 1):
                labels[node] = other
                assert information(graph, users, items) <= most + 1e-9
            labels[node] = own


def test_itcc_leaves_small_clusters_that_chance_has_put_together():
    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(90), 8)
    items = users // 3 * 3 + generator.integers(0, 3, len(users))
    strays = generator.random(len(users)) < 0.2
    items = np.where(strays, generator.integers(0, 90, len(users)), items)
    found = assign("itcc", BipartiteGraph.from_edges(users, items), 60)
    for side in found:
        assert adjusted_rand_score(np.arange(90) // 3, side.labels) > 0.7


def test_itcc_uses_every_row_and_has_one_for_nodes_without_an_edge(uneven):
    for side, degrees in zip(assign("itcc", uneven, 300), (uneven.user_degrees, uneven.item_degrees), strict=True):
        labels = np.asarray(side.labels)
        linked = np.asarray(degrees) > 0
        assert len(set(labels[~linked].tolist())) == 1
        assert not np.isin(labels[linked], labels[~linked]).any()
        assert side.rows == 1 + labels.max()


def test_infomap_tells_sparse_blocks_apart():
    """A walk of which only the visits to users are described hardly sees them."""
    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(150), 6)
    within = users // 5 * 5 + generator.integers(0, 5, len(users))
    items = np.where(np.arange(len(users)) % 6 < 4, within, generator.integers(0, 150, len(users)))
    found = assign("infomap", BipartiteGraph.from_edges(users, items), 60)
    for side in found:
        assert adjusted_rand_score(np.arange(150) // 5, side.labels) > 0.9


@pytest.mark.parametrize("parts", [40, 200, 340])
def test_metis_uses_every_part_it_is_asked_for(parts):
    pytest.importorskip("pymetis")
    from baco_gpu.methods.legcf import metis_parts

    users, items = metis_parts(random_graph(390, 290, 3000, seed=2), parts, seed=0)
    # Nodes without an edge have a part of their own.
    assert len(np.union1d(users.labels, items.labels)) in (parts, parts + 1)


def test_spectral_biclusters_tell_as_much_as_those_of_scikit_learn():
    """By what the clusters of an interaction's two ends say of one another."""
    from sklearn.cluster import SpectralBiclustering

    pairs, _, _ = planted_coclusters(400, 300, 3000, 8, noise=0.3, seed=1)
    # The class takes no ids without an interaction.
    rows, columns = (np.unique(ids, return_inverse=True)[1] for ids in (pairs.users, pairs.items))
    graph = BipartiteGraph.from_edges(rows, columns)
    users, items = assign("spectral-bi", graph, 16)
    model = SpectralBiclustering(n_clusters=(users.rows, items.rows), random_state=0).fit(graph.to_scipy())
    expected = mutual_info_score(model.row_labels_[rows], model.column_labels_[columns])
    assert mutual_info_score(users.labels[rows], items.labels[columns]) >= 0.9 * expected > 0.1


def test_legcf_draws_no_second_row_where_a_side_has_one(blocks):
    for side in assign("legcf", blocks, 2):
        assert side.rows == 1
        assert (side.secondary == NO_LABEL).all()


def test_lsh_puts_the_same_rows_into_the_same_bucket():
    rows = np.repeat(np.arange(20), 3)
    graph = BipartiteGraph.from_edges(np.arange(60).repeat(2), np.stack([rows, rows + 1], axis=1).ravel())
    users, _ = assign("lsh", graph, 30)
    assert users.rows == 20
    assert (users.labels.reshape(20, 3) == users.labels[::3, None]).all()


def test_unknown_methods_are_told_the_known_ones():
    with pytest.raises(InputError, match=r"method must be one of full, product, .*louvain.* \(.*\), got 'magic'"):
        find_method("magic")
    with pytest.raises(InputError, match="'louvain' must be followed by one of :users, :items, :both, :none"):
        find_method("louvain:all")
    with pytest.raises(InputError, match="'random' has no secondary clusters"):
        find_method("random:users")


def test_a_former_name_is_said_beside_the_present_one():
    with pytest.warns(FutureWarning, match="method 'narrow' is called 'low-dim' now"):
        method = find_method("narrow")
    assert method == find_method("low-dim")
    with pytest.raises(InputError, match=r"for method 'low-dim' \(asked for as 'narrow'\), got None"):
        method.given(None)


def test_a_suffix_names_the_sides_of_secondary_clusters():
    assert sides_of(find_method("louvain").secondary) == (False, False)
    assert sides_of(find_method("louvain:users").secondary) == (True, False)
    assert find_method("baco-multilevel:none").fixed == {"secondary": "none"}
    assert find_method("baco:items").fixed["solver"] == "paper"


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("paper", "baco"),
        ("codebook:both", "baco-multilevel:both"),
        ("narrow", "low-dim"),
        ("compact", "product:integers"),
        ("low-precision", "quantized:integers"),
    ],
)
def test_a_former_name_is_heeded_and_the_present_one_said(former, name):
    with pytest.warns(FutureWarning, match=f"method '{former}' is called '{name}' now: write that"):
        assert find_method(former) == find_method(name)
    assert former_names(name) == [former]


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    from baco_gpu.methods.modularity import louvain

    monkeypatch.setitem(__import__("sys").modules, "sknetwork", None)
    with pytest.raises(MissingExtraError, match=r"'louvain' needs scikit-network: pip install 'baco_gpu\[baselines\]'"):
        find_method("louvain").check_installed()
    monkeypatch.setitem(__import__("sys").modules, "sknetwork.clustering", None)
    with pytest.raises(MissingExtraError, match="louvain needs scikit-network"):
        louvain(random_graph(10, 10, 30, seed=0), 1.0, 0)


def test_every_method_says_what_it_is_and_where_it_comes_from():
    assert len({method.name for method in METHODS}) == len(METHODS)
    for method in METHODS:
        assert find_method(method.name) is method
        assert all((method.shared, method.stored, method.trained, method.when, method.source))
        assert method.size in ("full", "budget", "own")
