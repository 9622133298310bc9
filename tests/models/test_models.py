"""Matrix factorisation and LightGCN against their formulas written out with dense matrices."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models import BipartiteAdjacency, LightGCN, MatrixFactorization, build_model, full_table
from baco_gpu.tables import CodebookEmbedding

USERS, ITEMS, DIM = 7, 5, 3
# User 6 and item 4 have no interaction.
PAIRS = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [2, 2], [2, 3], [3, 3], [4, 0], [5, 2]], np.int32)


def interactions(pairs=PAIRS, weights=None):
    users, items = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    return Interactions(users, items, USERS, ITEMS, weights)


def split():
    part = interactions()
    return SplitInteractions(part, part.take(np.arange(1)), part.take(np.arange(1)))


def dense_adjacency(part):
    """(users + items) squared: w / sqrt(d d), by the definition."""
    matrix = np.zeros((USERS, ITEMS))
    weights = np.ones(len(part)) if part.weights is None else part.weights
    for user, item, weight in zip(part.users, part.items, weights, strict=True):
        matrix[user, item] += weight
    user_degree, item_degree = matrix.sum(1), matrix.sum(0)
    for user, item in np.argwhere(matrix):
        matrix[user, item] /= np.sqrt(user_degree[user] * item_degree[item])
    return torch.from_numpy(np.block([[np.zeros((USERS, USERS)), matrix], [matrix.T, np.zeros((ITEMS, ITEMS))]]))


def dense_propagation(part, users, items, num_layers):
    adjacency, layer = dense_adjacency(part), torch.cat((users, items))
    layers = [layer]
    for _ in range(num_layers):
        layers.append(adjacency @ layers[-1])
    return torch.stack(layers).mean(0).split((USERS, ITEMS))


def tables():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn((n, DIM), generator=generator, dtype=torch.float64).requires_grad_() for n in (USERS, ITEMS)]


WEIGHTED = interactions(np.concatenate([PAIRS, PAIRS[:2]]), np.array([1, 2, 0.5, 0, 3, 1, 1, 2, 1, 4, 0.0]))


@pytest.mark.parametrize("part", [interactions(), WEIGHTED], ids=["plain", "weighted and repeated"])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_propagation_is_the_mean_of_the_layers(part, num_layers):
    users, items = tables()
    adjacency = BipartiteAdjacency(part).double()
    found = adjacency.propagate(users, items, num_layers)
    wanted = dense_propagation(part, users, items, num_layers)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_propagation_is_differentiated_exactly(num_layers):
    users, items = tables()
    adjacency = BipartiteAdjacency(interactions()).double()

    def propagate(users, items):
        return adjacency.propagate(users, items, num_layers)

    def rows(users, items):
        # Rows 1 and 2 occur twice.
        where = torch.tensor([0, 1, 6, 1]), torch.tensor([[0, 4], [2, 2]])
        return adjacency.propagate_rows(users, items, num_layers, *where)

    assert torch.autograd.gradcheck(propagate, (users, items))
    assert torch.autograd.gradgradcheck(propagate, (users, items))
    assert torch.autograd.gradcheck(rows, (users, items))


def test_rows_are_those_of_the_whole_propagation():
    users, items = tables()
    adjacency = BipartiteAdjacency(interactions()).double()
    user_rows, item_rows = torch.tensor([3, 0]), torch.tensor([[1, 4], [1, 0]])
    found = adjacency.propagate_rows(users, items, 2, user_rows, item_rows)
    user_mean, item_mean = adjacency.propagate(users, items, 2)
    wanted = user_mean[user_rows], item_mean[item_rows], users[user_rows], items[item_rows]
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_one_frozen_side_and_other_precisions():
    users, items = (table.detach() for table in tables())
    users.requires_grad_()
    adjacency = BipartiteAdjacency(interactions())
    wanted = dense_propagation(interactions(), users, items, 2)
    adjacency.propagate(users, items, 2)[1].sum().backward()
    torch.testing.assert_close(users.grad, torch.autograd.grad(wanted[1].sum(), users)[0], rtol=1e-6, atol=1e-6)
    low = adjacency.propagate(users.detach().bfloat16(), items.bfloat16(), 2)
    assert low[0].dtype == torch.bfloat16
    torch.testing.assert_close(low[0].double(), wanted[0].detach(), rtol=0.05, atol=0.05)


def test_graph_without_interactions_leaves_a_share_of_layer_zero():
    users, items = tables()
    adjacency = BipartiteAdjacency(interactions(PAIRS[:0])).double()
    torch.testing.assert_close(adjacency.propagate(users, items, 2), (users / 3, items / 3))


def make(method, compressed):
    if compressed:
        user_table = CodebookEmbedding([0, 0, 1, 1, 2, 2, 0], DIM, [1, -1, 2, 1, 0, 0, -1], dtype=torch.float64)
        item_table = CodebookEmbedding([5, 5, 6, 6, 7], DIM, dtype=torch.float64)
    else:
        user_table, item_table = (nn.Embedding(n, DIM, dtype=torch.float64) for n in (USERS, ITEMS))
    return build_model(method, {"users": user_table, "items": item_table}, split()).double()


@pytest.mark.parametrize("items", [[4, 1, 1, 0], [[1, 0, 3], [4, 1, 1]], []])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_rows_and_gradients_follow_the_definition(method, compressed, items):
    model = make(method, compressed)
    users, items = torch.tensor([0, 2, 2]), torch.tensor(items, dtype=torch.int64)
    rows = model.rows(users, items)

    initial = model.user_embedding.weight, model.item_embedding.weight
    final = dense_propagation(interactions(), *initial, 2) if method == "lightgcn" else initial
    for ours, theirs in zip(model.representations(), final, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    wanted = final[0][users], final[1][items], initial[0][users], initial[1][items]
    for ours, theirs in zip(rows, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)

    def loss(rows):
        return sum(((place + 1) * values).sin().sum() for place, values in enumerate(rows))

    ours = torch.autograd.grad(loss(rows), list(model.parameters()))
    theirs = torch.autograd.grad(loss(wanted), list(model.parameters()))
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_copies_keep_the_representations_and_checkpoints_leave_the_graph_out(method):
    model = make(method, compressed=True)
    assert not any("adjacency" in name for name in model.state_dict())
    other = make(method, compressed=True)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for ours, theirs in zip(twin.representations(), model.representations(), strict=True):
            assert torch.equal(ours, theirs)


def test_models_by_name():
    model = build_model("lightgcn", {"users": full_table(USERS, 4), "items": full_table(ITEMS, 4)}, split(), layers=3)
    assert isinstance(model, LightGCN)
    assert model.num_layers == 3
    assert "num_layers=3" in repr(model)
    assert "7 users, 5 items, 9 entries" in repr(model)
    assert (
        type(build_model("mf", {"users": full_table(USERS, 4), "items": full_table(ITEMS, 4)}, split()))
        is MatrixFactorization
    )


def test_what_does_not_fit_is_refused():
    tables = {"users": full_table(USERS, 4), "items": full_table(ITEMS, 4)}
    with pytest.raises(InputError, match=r"model must be one of 'lightgcn', 'mf'.*, got 'svd'"):
        build_model("svd", tables, split())
    with pytest.raises(InputError, match="the split has 5 items, the table of items has 6 rows"):
        build_model("mf", tables | {"items": full_table(6, 4)}, split())
    with pytest.raises(InputError, match="same embedding_dim, got 4 and 5"):
        MatrixFactorization(full_table(USERS, 4), full_table(ITEMS, 5))
    with pytest.raises(InputError, match="the adjacency has 7 users and 5 items, the embeddings 7 and 6"):
        LightGCN(full_table(USERS, 4), full_table(6, 4), BipartiteAdjacency(interactions()))
    with pytest.raises(InputError, match="layers must be an integer at least 0"):
        build_model("lightgcn", tables, split(), layers=-1)
    with pytest.raises(InputError, match="model 'mf' needs tables of users and items, got \\['items'\\]"):
        build_model("mf", {"items": full_table(ITEMS, 4)}, split())
    with pytest.raises(InputError, match="model 'lightgcn' has no option 'depth', it has layers"):
        build_model("lightgcn", tables, split(), depth=2)
    with pytest.raises(InputError, match="embedding_dim must be an integer at least 1"):
        full_table(3, 0)
    with pytest.raises(InputError, match="weights of interactions must be finite and non-negative"):
        BipartiteAdjacency(interactions(weights=np.full(len(PAIRS), -1.0)))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
@pytest.mark.parametrize("rows", [[0], [0, 3, 3], list(range(60))])
def test_gradients_of_few_rows_have_the_bits_of_a_whole_propagation(num_layers, rows):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 60, (300, 2)), axis=0).astype(np.int32)
    part = Interactions(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), 60, 60)
    neighbors = BipartiteAdjacency(part)._neighbors()
    where = torch.tensor(rows)
    users, items = (torch.zeros(60, 4).index_add_(0, where, torch.randn(len(rows), 4)) for _ in range(2))
    own = neighbors.averaged_of(users, items, num_layers, where, where)
    for found, wanted in zip(own, neighbors.averaged(users, items, num_layers), strict=True):
        assert torch.equal(found, wanted)
