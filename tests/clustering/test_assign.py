"""New ids: labels that a sweep would give them, whatever the weights, however they are named, in any company."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu import (
    BalancedCoclustering,
    BipartiteGraph,
    CoclusteringResult,
    CodebookEmbedding,
    ResidualCodebookEmbedding,
)
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import USERS, Partition
from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.weights import SCHEMES, integer_weights
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from graphs import bipartite_graphs, random_graph, reference_of
from reference_solver import best, one_sided_partners, volumes
from tiers import examples

pytestmark = pytest.mark.heavy("solves many graphs")


def fitted(graph, **parameters):
    return BalancedCoclustering(**{"budget": 0.5, "secondary": "both", **parameters}).fit(graph).result_


def twins(graph, side):
    """The graph's edges, each again as one of a new node of that side: node k's twin is k beyond the last."""
    ends = [np.repeat(np.arange(graph.num_users), graph.user_degrees), graph.csr.neighbors.astype(np.int64)]
    sizes = [graph.num_users, graph.num_items]
    ends[side] = ends[side] + sizes[side]
    sizes[side] *= 2
    return BipartiteGraph.from_edges(*ends, graph.csr.weights, num_users=sizes[0], num_items=sizes[1])


def expected_labels(graph, scheme, gamma, labels, side, node):
    """The best and the second-best label that a neighbor has and the node's side owns, by the slow solver; where there
    is none, of those that the neighbors' co-clusters would merge with."""
    reference, weights = reference_of(graph, scheme)
    penalty = gamma * weights.penalty_per_gamma
    strengths = Counter()
    for other, weight in reference.neighbors[side][node]:
        strengths[labels[1 - side][other]] += weight
    if not strengths.keys() & set(labels[side]):
        partners = one_sided_partners(reference, labels, penalty)
        for label in list(strengths):
            strengths[partners[label]] += strengths.pop(label)
    factor, other_volumes = penalty * float(reference.node_weights[side][node]), volumes(reference, labels)[1 - side]
    candidates = {
        label: float(strengths[label]) - factor * float(other_volumes[label])
        for label in strengths.keys() & set(labels[side])
    }
    if not candidates:
        return None
    first = best(candidates)
    del candidates[first]
    return first, best(candidates) if candidates else -1


@examples(60)
@given(
    graph=bipartite_graphs(),
    scheme=st.sampled_from(SCHEMES),
    gamma=st.sampled_from([0.0, 0.3, 1.0, 2.5, 40.0]),
    side=st.sampled_from([0, 1]),
)
def test_a_node_that_comes_again_gets_the_best_of_its_neighbors_labels(graph, scheme, gamma, side):
    result = fitted(graph, budget=None, gamma=gamma, weights=scheme)
    size = (graph.num_users, graph.num_items)[side]
    if not size:
        return
    grown = result.assign(twins(graph, side), fallback="largest")
    old, new = ((one.users, one.items)[side] for one in (result, grown))
    labels = [result.users.labels.tolist(), result.items.labels.tolist()]
    largest = np.bincount(old.labels).argmax()
    for node in range(size):
        wanted = expected_labels(graph, scheme, gamma, labels, side, node) or (largest, -1)
        assert (new.labels[size + node], new.secondary[size + node]) == wanted
    assert (new.labels[:size] == old.labels).all()
    assert (new.secondary[:size] == old.secondary).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_node_that_comes_again_gets_the_label_of_a_sweep(weighted):
    graph = random_graph(300, 200, 3000, seed=1, weighted=weighted)
    result, backend = fitted(graph), get_backend("cpu")
    weights = integer_weights(graph, "degree")
    problem = backend.load(graph, weights)
    labels = (result.users.labels.copy(), result.items.labels.copy())
    partition = Partition(labels, backend.volumes(problem, labels, result.num_clusters), 0)
    penalty = result.gamma * weights.penalty_per_gamma
    # Every label that has a user may be had by more; no node is held.
    anchors = np.where(np.bincount(labels[USERS], minlength=result.num_clusters) > 0, graph.num_users, -1)
    backend.move(problem, partition, USERS, np.arange(graph.num_users), penalty, anchors, np.zeros(2, np.int64))
    swept = partition.labels[USERS]

    assigned = result.assign(twins(graph, USERS), fallback="largest").users.labels[graph.num_users :]
    near = [
        swept[user] in labels[1][graph.csr.neighbors[a:b]]
        for user, (a, b) in enumerate(zip(graph.csr.offsets[:-1], graph.csr.offsets[1:], strict=True))
    ]
    assert np.mean(near) > 0.9  # the others keep a label that none of their neighbors has
    assert (assigned[near] == swept[near]).all()


def logs(seed=0):
    """A graph by raw id, of 60 users named by strings and 40 items by sparse integers."""
    plain = random_graph(60, 40, 500, seed)
    return BipartiteGraph(
        plain.csr,
        plain.csc,
        Vocabulary([f"user-{k:02}" for k in range(60)]),
        Vocabulary(1000 * np.arange(40)),
    )


def test_new_ids_join_by_raw_id_and_old_ones_keep_their_labels():
    graph = logs()
    result = fitted(graph)
    users = ["user-05b", "user-05b", "a-user", "user-07", "user-08"]
    items = [3000, 7000, 5000, 5, 5]
    grown = result.assign((users, items))
    assert len(grown.users) == 62
    assert len(grown.items) == 41
    old = [f"user-{k:02}" for k in range(60)]
    assert (grown.users.label_of(old) == result.users.labels).all()
    assert (grown.items.label_of(1000 * np.arange(40)) == result.items.labels).all()
    assert grown.users.degrees[grown.users.index_of(["user-05b", "a-user"])].tolist() == [2, 1]
    assert grown.items.degrees[grown.items.index_of([5])].tolist() == [2]
    assert grown.users.label_of(["a-user"]) == result.items.label_of([5000])


def test_ids_name_nodes_in_any_form_of_interactions(tmp_path):
    import pandas as pd

    graph = logs()
    result = fitted(graph)
    users, items = ["user-05b", "user-05b", "a-user"], [3000, 7000, 5000]
    wanted = result.assign((users, items)).labels_sha256
    frame = pd.DataFrame({"user": users, "item": items})
    assert result.assign(frame).labels_sha256 == wanted
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert result.assign(tmp_path / "new.csv").labels_sha256 == wanted


def test_interactions_without_a_vocabulary_hold_the_integers_of_the_result():
    plain = random_graph(30, 20, 200, 3)
    graph = BipartiteGraph(plain.csr, plain.csc, Vocabulary(2 * np.arange(30)), Vocabulary(2 * np.arange(20)))
    result = fitted(graph)
    grown = result.assign(BipartiteGraph.from_edges([7, 7], [4, 8]))
    assert grown.users.vocabulary == Vocabulary([*range(0, 60, 2), 7])
    assert grown.users.label_of(7) == result.assign(([7, 7], [4, 8])).users.label_of(7)
    assert len(grown.items) == 20


def test_the_order_and_the_company_of_new_nodes_do_not_matter():
    graph = random_graph(200, 150, 2500, seed=2, weighted=True)
    result = fitted(graph)
    together = result.assign(twins(graph, USERS), fallback="largest")
    first = result.assign(_of_users(graph, range(120), 200), fallback="largest")
    then = first.assign(_of_users(graph, range(200), 200), fallback="largest")
    assert then.labels_sha256 == together.labels_sha256
    assert (then.users.degrees == together.users.degrees).all()


def _of_users(graph, users, shift):
    matrix = graph.to_scipy()[list(users)].tocoo()
    return BipartiteGraph.from_edges(
        matrix.row + shift, matrix.col, matrix.data, num_users=len(users) + shift, num_items=graph.num_items
    )


def test_interactions_between_known_or_between_new_nodes_tell_nothing():
    graph = random_graph(60, 40, 500, seed=4)
    result = fitted(graph)
    new = result.assign(([60, 60], [3, 7]))
    more = result.assign(([60, 60, 0, 1], [3, 7, 9, 9]))
    assert new.labels_sha256 == more.labels_sha256
    with pytest.raises(InputError, match=r"new items must have .* got 1 without: 40"):
        result.assign(([60, 60], [3, 40]))


def test_the_accounting_counts_the_new_ids_and_the_rest_is_the_old_graphs(tmp_path):
    graph = random_graph(60, 40, 500, seed=5)
    result = fitted(graph, secondary="users")
    grown = result.assign(([60, 60, 61], [3, 7, 9]))
    more = int((grown.users.secondary[60:] >= 0).sum())
    assert grown.table.full_rows == 102
    assert grown.codebook_rows == result.codebook_rows
    assert grown.parameters_compressed == result.parameters_compressed + more
    assert grown.bytes_compressed == result.bytes_compressed + 4 * 2 * 2
    assert (grown.objective, grown.num_edges) == (result.objective, result.num_edges)
    assert grown.items.secondary is None
    loaded = CoclusteringResult.load(grown.save(tmp_path / "grown.safetensors"))
    assert loaded.scale == result.scale
    again = ([62], [3])
    assert loaded.assign(again).labels_sha256 == grown.assign(again).labels_sha256


def test_a_codebook_takes_the_new_ids():
    result = fitted(random_graph(60, 40, 500, seed=6))
    table = CodebookEmbedding(result.users.labels, 8, result.users.secondary)
    before = table.codebook
    grown = result.assign(([60, 60, 61], [3, 7, 9]))
    table.resize(grown.users.labels, grown.users.secondary)
    assert table.num_embeddings == 62
    assert table.codebook is before


def test_residuals_stay_with_their_ids_when_others_come_between_them():
    result = fitted(logs())
    table = ResidualCodebookEmbedding(result.users.labels, 8, result.users.secondary, residual_dim=2)
    with torch.no_grad():
        table.residual[:-1].normal_(generator=torch.Generator().manual_seed(0))
    before = table.weight.detach()
    grown = result.assign((["a-user", "user-05b"], [3000, 7000])).users
    table.resize(grown.labels, grown.secondary, places=result.users.places_in(grown))
    now = grown.index_of([f"user-{k:02}" for k in range(60)])
    assert now.tolist() != list(range(60))
    assert torch.equal(table.weight[now], before)
    new = grown.index_of(["a-user", "user-05b"])
    assert (table.residual_rows[new] == 60).all()


def test_places_are_those_of_the_same_nodes():
    result, named = fitted(random_graph(60, 40, 500, seed=6)), fitted(logs())
    assert result.users.places_in(result.assign(([60], [3])).users).tolist() == list(range(60))
    grown = named.assign((["a-user", "user-05b"], [3000, 7000]))
    assert grown.users.raw_ids(named.users.places_in(grown.users)).tolist() == [f"user-{k:02}" for k in range(60)]
    assert named.items.places_in(grown.items).tolist() == list(range(40))
    for before, after, message in (
        (grown, named, "all 62 nodes of this side, got one without 2 of them"),
        (result, named, "grown must name its nodes as this side does"),
        (named, result, "grown must name its nodes as this side does"),
    ):
        with pytest.raises(InputError, match=message):
            before.users.places_in(after.users)
    with pytest.raises(InputError, match="all 60 nodes of this side, got one without 20 of them"):
        result.users.places_in(result.items)


def test_what_cannot_be_assigned_is_refused():
    graph = random_graph(60, 40, 500, seed=7)
    result, named = fitted(graph), fitted(logs())
    with pytest.raises(InputError, match="fallback must be one of"):
        result.assign(([60], [3]), fallback="guess")
    with pytest.raises(InputError, match=r"new users must have .* got 2 without: 60, 61 \(.*'largest'[^,]*\)"):
        result.assign(BipartiteGraph.from_edges([62], [3]))
    with pytest.raises(
        InputError,
        match=r"new users must have .* 'z'; new items must .*: -1 \(.*'drop' leaves them out",
    ):
        named.assign((["z"], [-1]))
    with pytest.raises(InputError, match="users must be named by index"):
        result.assign(BipartiteGraph.from_edges([0], [3], user_vocabulary=Vocabulary(["a"])))
    with pytest.raises(InputError, match="users: raw ids of this vocabulary are strings"):
        named.assign(([1], [3]))
    with pytest.raises(InputError, match="whole numbers"):
        result.assign(BipartiteGraph.from_edges([60], [3], [0.5]))
    with pytest.raises(InputError, match="must sum to less than"):
        result.assign(BipartiteGraph.from_edges([60], [3], [2.0**60]))
    fractions = fitted(BipartiteGraph.from_edges([0, 0, 1], [0, 1, 1], [0.5, 0.25, 1.5]))
    with pytest.raises(InputError, match="must be at least"):
        fractions.assign(BipartiteGraph.from_edges([2], [0], [1e-30]))
    unknown = CoclusteringResult(**{**vars(result), "scale": None})
    with pytest.raises(InputError, match="must know its weight scale"):
        unknown.assign(([60], [3]))
    nobody = Assignment(np.empty(0, np.int32), np.empty(0, np.int32))
    with pytest.raises(InputError, match="items of the result must be some"):
        CoclusteringResult(**{**vars(result), "items": nobody}).assign(([0], [0]), fallback="largest")


def test_interactions_without_weights_weigh_one_among_fractions():
    result = fitted(BipartiteGraph.from_edges([0, 0, 1], [0, 1, 1], [0.5, 0.25, 1.5]), budget=None, gamma=1.0)
    plain = result.assign(([2, 2], [0, 1]))
    assert plain.labels_sha256 == result.assign(BipartiteGraph.from_edges([2, 2], [0, 1], [1.0, 1.0])).labels_sha256


def one_sided(side):
    """The result of one node of a side with eight edges: some of the other side's are in co-clusters of their own."""
    ends = [np.zeros(8, int), np.arange(8)]
    graph = BipartiteGraph.from_edges(*(ends if side == USERS else ends[::-1]))
    result = fitted(graph, budget=0.5)
    assert set(result.items.labels) != set(result.users.labels)
    return result


@pytest.mark.parametrize("side", [0, 1], ids=["users", "items"])
@pytest.mark.parametrize("loaded", [False, True])
def test_whoever_knows_a_node_in_a_co_cluster_without_the_side_goes_through_its_neighbors(tmp_path, side, loaded):
    result = one_sided(side)
    if loaded:
        result = CoclusteringResult.load(result.save(tmp_path / "result.safetensors"))
    pairs = [np.arange(1, 9), np.arange(8)]
    pairs = pairs if side == USERS else pairs[::-1]
    for grown in (result.assign(tuple(pairs)), result.update(BipartiteGraph.from_edges(*pairs), sweeps=0).result):
        old, new = ((one.users, one.items)[side] for one in (result, grown))
        assert (new.labels == old.labels[0]).all()
        assert (new.secondary == -1).all()
        table = CodebookEmbedding(old.labels, 4)
        table.resize(new.labels)
        assert table.num_embeddings == 9
    assert (grown.partners == result.partners).all()
    assert grown.assign(([9], [0]) if side == USERS else ([0], [9])).partners is grown.partners


def test_an_update_goes_through_neighbors_as_well_and_never_to_the_largest_co_cluster_instead():
    graph = random_graph(80, 60, 400, seed=9)
    result = fitted(graph, budget=0.8)
    lonely = ~np.isin(result.items.labels, result.users.labels) & (graph.item_degrees > 0)
    items = np.flatnonzero(lonely)
    assert len(items) > 10
    new = (np.arange(80, 80 + len(items)), items)
    old = (np.repeat(np.arange(80), graph.user_degrees), graph.csr.neighbors)
    wanted = result.assign(new).users.labels
    assert (wanted[80:] == result.partners[result.items.labels[items]]).all()
    whole = tuple(np.concatenate(part) for part in zip(old, new, strict=True))
    assert (result.update(whole, sweeps=0).result.users.labels == wanted).all()


def test_a_result_of_before_partners_says_so_where_they_are_missing():
    old = replace(one_sided(USERS), partners=None)
    with pytest.raises(InputError, match=r"got 2 without: 7, 8 \(.*fitted anew finds more"):
        old.assign((np.arange(1, 9), np.arange(8)))
    assert old.assign((np.arange(1, 9), np.arange(8)), fallback="largest").users.labels.tolist() == [0] * 9


def test_new_ids_with_nowhere_to_go_are_named_or_left_out_and_the_others_stay():
    plain = random_graph(60, 40, 500, seed=0)
    far = [f"user-{k:02}" for k in range(60)]
    graph = BipartiteGraph(plain.csr, plain.csc, Vocabulary(far), Vocabulary(1000 * np.arange(40)))
    result = fitted(graph)
    users = ["a-user", *(f"lost-{k:02}" for k in range(12)), "user-05b", "user-07"]
    items = [3000, *range(1, 13), 7000, 13]
    with pytest.raises(InputError) as caught:
        result.assign((users, items))
    message = str(caught.value)
    assert "12 without: 'lost-00', 'lost-01', " in message
    assert "'lost-09' and 2 more; new items" in message
    assert "12 without: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more (" in message
    grown = result.assign((users, items), fallback="drop")
    assert grown.users.vocabulary == Vocabulary([*far, "a-user", "user-05b"])
    assert grown.items.vocabulary == Vocabulary([*(1000 * np.arange(40)), 13])
    assert grown.labels_sha256 == result.assign((users[:1] + users[13:], items[:1] + items[13:])).labels_sha256
    assert grown.users.degrees[grown.users.index_of(["a-user"])].tolist() == [1]
    everyone = result.assign((users[1:13], items[1:13]), fallback="drop")
    assert everyone.labels_sha256 == result.labels_sha256
    with pytest.raises(InputError, match="fallback='drop' must have raw ids on both sides"):
        one_sided(USERS).assign(([1], [0]), fallback="drop")


def test_an_item_without_an_edge_leads_nowhere():
    result = fitted(BipartiteGraph.from_edges([0, 1], [0, 1], num_items=3), budget=None, gamma=1.0)
    with pytest.raises(InputError, match=r"new users must have .* got 1 without: 2"):
        result.assign(([2], [2]))
