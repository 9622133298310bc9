"""Product codes: centroids near the rows, rows put together of them, and gradients that reach both."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from baco_gpu import CodebookEmbedding, ProductCodebookEmbedding
from baco_gpu.codebook import subspaces
from baco_gpu.codebook.product import encode_together
from baco_gpu.codebook.subspaces import (
    MOST_CENTROIDS,
    balanced_rotation,
    fit_centroids,
    nearest_centroids,
    subspaces_of,
)
from baco_gpu.errors import InputError

CODES = np.array([0, 3, 3, 7, 0, 9, 7, 7])
SECONDARY = np.array([3, -1, 0, 9, 9, -1, 0, 3])


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def encoded(secondary=SECONDARY, *, seed=0, **options):
    torch.manual_seed(seed)
    module = ProductCodebookEmbedding(CODES, 5, secondary, **{"width": 2, "centroids": 3, **options})
    module.encode(seed)
    return module


def put_together(centroids, numbers, dim):
    """Rows of the numbers, piece by piece."""
    return torch.stack([torch.cat([centroids[int(number)] for number in row]) for row in numbers])[:, :dim]


def test_pieces_of_a_row_may_leave_a_narrower_one():
    assert [subspaces_of(64, width) for width in (1, 4, 5, 64)] == [64, 16, 13, 1]


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(0, 9))
def test_no_centroid_is_nearer_than_that_of_the_code(rows, dim, width, count, seed):
    width = min(width, dim)
    table, centroids = normal(rows, dim, seed=seed), normal(count, width, seed=seed + 1)
    numbers = nearest_centroids(table, centroids)
    assert (numbers.dtype, numbers.shape) == (torch.uint8, (rows, subspaces_of(dim, width)))
    for place, pieces in enumerate(table.split(width, dim=1)):
        distances = torch.cdist(pieces, centroids[:, : pieces.shape[1]], compute_mode="donot_use_mm_for_euclid_dist")
        chosen = distances.gather(1, numbers[:, place : place + 1].long()).squeeze(1)
        torch.testing.assert_close(chosen, distances.amin(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "dtype"), [(256, torch.uint8), (257, torch.int16), (MOST_CENTROIDS, torch.int16)])
def test_a_number_has_as_many_bytes_as_it_needs(count, dtype):
    centroids = torch.arange(count, dtype=torch.float64).unsqueeze(1)
    numbers = nearest_centroids(torch.tensor([[0, count - 1]], dtype=torch.float64), centroids)
    assert (numbers.dtype, numbers.tolist()) == (dtype, [[0, count - 1]])


def test_k_means_finds_groups_and_repeats():
    centres = torch.tensor([[0.0, 0, 9, 9, 0], [9, 9, 0, 0, 9], [0, 9, 9, 9, 0]])  # pieces 00, 99 and 09
    rows = centres.repeat_interleave(40, 0)[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    noisy = rows + 0.01 * normal(120, 5)
    errors = []
    for seed in range(8):
        centroids = fit_centroids(noisy, 2, 3, seed)
        assert torch.equal(centroids, fit_centroids(noisy, 2, 3, seed))
        assert centroids.shape == (3, 2)
        stored = put_together(centroids, nearest_centroids(noisy, centroids), 5)
        errors.append(float((stored - noisy).square().mean()))
    assert min(errors) < 1e-3


def test_k_means_takes_the_mean_of_the_pieces_of_a_centroid(monkeypatch):
    rows = normal(200, 6)
    before, after = (fit_with(rounds, rows, 3, 8, monkeypatch) for rounds in (4, 5))
    pieces, numbers = rows.reshape(400, 3), nearest_centroids(rows, before).reshape(400)
    means = torch.stack([pieces[numbers == number].mean(0) for number in range(8)])
    torch.testing.assert_close(after, means)
    assert (after - before).norm() > 1e-3


def fit_with(rounds, rows, width, count, monkeypatch):
    monkeypatch.setattr(subspaces, "_ROUNDS", rounds)
    return fit_centroids(rows, width, count, 0)


def test_as_many_centroids_as_pieces_leave_no_error():
    rows = normal(12, 8)
    centroids = fit_centroids(rows, 4, 24, 3)
    assert torch.equal(put_together(centroids, nearest_centroids(rows, centroids), 8), rows)


def test_a_tree_finds_what_comparing_with_all_centroids_does(monkeypatch):
    rows, centroids = normal(300, 10), normal(1500, 4, seed=1)
    found = nearest_centroids(rows, centroids)
    assert torch.equal(found, nearest_centroids(rows, nn.Parameter(centroids)))
    monkeypatch.setattr(subspaces, "_MANY", 1501)
    assert torch.equal(found, nearest_centroids(rows, centroids))


def test_tables_may_share_their_centroids():
    users, items = (ProductCodebookEmbedding(np.arange(9), 4, width=2, centroids=8) for _ in range(2))
    with torch.no_grad():  # two pieces in each table, others in the other one
        users.codebook.copy_(torch.tensor([0.0, 1, 2, 3]).repeat(9, 1))
        items.codebook.copy_(torch.tensor([4.0, 5, 6, 7]).repeat(9, 1))
    with pytest.raises(InputError, match="must have the same centroids to be encoded together, got several"):
        encode_together([users, items])
    items.centroids = users.centroids
    errors = []
    for seed in range(8):
        encode_together([users, items], seed)
        errors.append(float(sum((table.weight - table.codebook).detach().square().sum() for table in (users, items))))
    assert min(errors) == 0
    assert users.encoded
    assert items.encoded


@pytest.mark.parametrize("width", [1, 3, 4, 8])
def test_a_rotation_changes_no_product_and_balances_subspaces(width):
    skewed = normal(400, 8) * torch.tensor([9.0, 5, 3, 1, 1, 0.5, 0.1, 0.01])
    mixed, other = skewed @ torch.linalg.qr(normal(8, 8, seed=2)).Q, normal(300, 8, seed=3)
    rotation = balanced_rotation([mixed, mixed[:50]], width)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close((mixed @ rotation) @ (other @ rotation).T, mixed @ other.T, rtol=1e-4, atol=1e-3)
    if width == 4:
        variances = (mixed @ rotation).square().mean(0).log().view(2, 4).sum(1)
        before = mixed.square().mean(0).log().view(2, 4).sum(1)
        assert abs(variances[0] - variances[1]) < 5  # in the order of their variance it would be more than 20
        assert variances.sum() < before.sum() - 3  # what is left after rounding goes with the product of variances


def test_rows_are_floats_until_they_are_encoded():
    module = ProductCodebookEmbedding(CODES, 5, SECONDARY, width=2, centroids=2)
    plain = CodebookEmbedding(CODES, 5, SECONDARY)
    with torch.no_grad():
        plain.codebook.copy_(module.codebook)
    assert not module.encoded
    assert torch.equal(module.weight, plain.weight)
    module.encode()
    assert module.encoded
    assert not torch.equal(module.weight, plain.weight)
    module.rounding = False
    assert torch.equal(module(torch.arange(8)), plain.weight)


@pytest.mark.parametrize("options", [{}, {"width": 3}, {"width": 5, "centroids": 2}, {"dtype": torch.float16}])
@pytest.mark.parametrize("secondary", [None, SECONDARY])
def test_rows_are_put_together_of_their_centroids(options, secondary):
    module = encoded(secondary, **options)
    rows = put_together(module.centroids.detach(), module.numbers, 5)
    assert torch.equal(module.numbers, nearest_centroids(module.codebook.detach(), module.centroids.detach()))
    plain = CodebookEmbedding(CODES, 5, secondary, dtype=rows.dtype)
    with torch.no_grad():
        plain.codebook.copy_(rows)
    assert torch.equal(module.weight, plain.weight)
    for ids in (torch.arange(8), torch.tensor([[5, 2], [2, 0]]), torch.tensor(3), torch.empty(0, dtype=torch.int64)):
        assert torch.equal(module(ids), plain(ids))


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"secondary": None}])
def test_gradients_reach_the_centroids_and_pass_through_to_the_floats(ids, options):
    module = encoded(**options, dtype=torch.float64)
    plain = CodebookEmbedding(CODES, 5, options.get("secondary", SECONDARY), padding_idx=module.padding_idx).double()
    pull = normal(len(ids), 5, dtype=torch.float64)
    (module(ids) * pull).sum().backward()
    (plain(ids) * pull).sum().backward()
    torch.testing.assert_close(module.codebook.grad, plain.codebook.grad)
    wanted = torch.zeros_like(module.centroids)
    padded = nn.functional.pad(plain.codebook.grad, (0, 1)).view(4, 3, 2)
    for row, numbers in enumerate(module.numbers.tolist()):
        for place, number in enumerate(numbers):
            wanted[number] += padded[row, place]
    torch.testing.assert_close(module.centroids.grad, wanted)
    whole = copy.deepcopy(module)
    whole.zero_grad()
    (whole.weight[ids] * pull).sum().backward()
    torch.testing.assert_close(whole.centroids.grad, wanted)
    torch.testing.assert_close(whole.codebook.grad, plain.codebook.grad)


def test_floats_may_be_gone_back_to():
    module = encoded()
    module.to_floats()
    assert not module.encoded
    plain = CodebookEmbedding(CODES, 5, SECONDARY)
    with torch.no_grad():
        plain.codebook.copy_(module.codebook)
    assert torch.equal(module.weight, plain.weight)
    module.encode()
    module.drop_floats()
    with pytest.raises(InputError, match="they have been dropped"):
        module.to_floats()


def test_codes_follow_the_floats_when_they_are_told_to():
    module = encoded(None)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.codebook.copy_(module.codebook.flip(0))
    assert torch.equal(module.weight, before)
    module.reassign()
    codes = module.codes.long()
    assert torch.equal(module.weight, put_together(module.centroids.detach(), module.numbers, 5)[codes])
    assert not torch.equal(module.weight, before)


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize("secondary", [None, SECONDARY])
def test_without_floats_the_centroids_are_trained_alone(ids, secondary):
    module = encoded(secondary, dtype=torch.float64)
    twin = copy.deepcopy(module)
    twin.drop_floats()
    assert (twin.codebook.shape, twin.num_rows, twin.nbytes) == ((0, 5), 4, module.nbytes)
    assert torch.equal(twin.weight, module.weight)
    for table in (module, twin):
        table(ids).square().sum().backward()
    assert torch.equal(twin.centroids.grad, module.centroids.grad)
    for work in (twin.encode, twin.reassign):
        with pytest.raises(InputError, match="they have been dropped"):
            work()
    with pytest.raises(InputError, match="indices must be from 0 to 7, got 8"):
        twin(torch.tensor([8]))
    fresh = ProductCodebookEmbedding(CODES, 5, secondary, width=2, centroids=3, dtype=torch.float64)
    for source in (twin, module):  # a state without floats is taken by a module with them, and the other way round
        fresh.load_state_dict(source.state_dict())
        assert torch.equal(fresh.weight, module.weight)
        assert len(fresh.codebook) == len(source.codebook)
    with pytest.raises(InputError, match="must be encoded before"):
        ProductCodebookEmbedding(CODES, 5, width=2).drop_floats()


def test_a_trained_table_is_compressed():
    table = nn.Embedding.from_pretrained(normal(300, 16))
    errors = []
    for width in (8, 4, 2, 1):
        module = ProductCodebookEmbedding.from_pretrained(table, np.arange(300), width=width, centroids=16, seed=1)
        assert torch.equal(module.codebook, table.weight)
        errors.append(float((module.weight - table.weight).detach().square().mean()))
    assert sorted(errors, reverse=True) == errors
    assert errors[-1] < 0.02


def test_rows_that_are_not_finite_are_refused():
    module = ProductCodebookEmbedding(CODES, 5, width=2)
    with torch.no_grad():
        module.codebook[1, 2] = float("nan")
    with pytest.raises(InputError, match="rows must be finite to be encoded, got NaN or infinity"):
        module.encode()
    assert not module.encoded


def test_what_it_costs():
    module = encoded(None)  # four rows of three pieces; three centroids of two values
    assert module.parameter_count == 3 * 2 + 4 * 2
    assert module.nbytes == 3 * 2 * 4 + 4 * 3 + 8 * 4
    own = ProductCodebookEmbedding(np.arange(8), 6, width=3)
    assert own.parameter_count == 256 * 3 + 8
    assert own.nbytes == 256 * 3 * 4 + 8 * 2
    many = ProductCodebookEmbedding(np.arange(200), 6, width=3, centroids=300)
    assert many.nbytes == 300 * 3 * 4 + 200 * 2 * 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_the_same_module(again):
    module = encoded()
    assert torch.equal(again(module).weight, module.weight)


def test_a_state_brings_its_codes_along():
    module, other = encoded(), ProductCodebookEmbedding(CODES, 5, SECONDARY, width=2, centroids=3)
    other.load_state_dict(module.state_dict())
    assert other.rounding
    assert torch.equal(other.weight, module.weight)
    other.load_state_dict(ProductCodebookEmbedding(CODES, 5, SECONDARY, width=2, centroids=3).state_dict())
    assert not other.rounding
    state = module.state_dict()
    state["numbers"] = state["numbers"].clone().fill_(3)
    with pytest.raises(RuntimeError, match="numbers must be centroids from 0 to 2, got up to 3"):
        other.load_state_dict(state)
    state["numbers"] = state["numbers"].to(torch.int16).fill_(-1)
    with pytest.raises(RuntimeError, match="numbers must be centroids from 0 to 2, got down to -1"):
        other.load_state_dict(state)


def test_new_ids_get_rows_that_there_are():
    module = encoded()
    grown = module.with_new_ids([9, 0], [-1, 7])
    assert torch.equal(grown.weight[:8], module.weight)
    rows = put_together(module.centroids.detach(), module.numbers, 5)
    torch.testing.assert_close(grown.weight[8:].detach(), torch.stack([rows[3], (rows[0] + rows[2]) / 2]))
    assert grown.centroids is module.centroids
    module.resize([*CODES, 9], None)
    assert torch.equal(module(torch.tensor([8])).detach(), rows[3:])


def test_it_compiles_to_one_graph():
    module = encoded(dtype=torch.float64)
    ids = torch.tensor([1, 1, 6])
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids), module(ids))
    compiled(ids).square().sum().backward()
    gradient = module.centroids.grad.clone()
    module.zero_grad()
    module(ids).square().sum().backward()
    torch.testing.assert_close(gradient, module.centroids.grad)


def test_it_says_what_it_is():
    assert repr(encoded(None)) == "ProductCodebookEmbedding(8, 5, num_rows=4, width=2, centroids=3)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be an integer at least 1, got 0"),
        ({"width": 6}, "width must be at most the embedding_dim of 5, got 6"),
        ({"width": 2, "centroids": 32769}, "centroids must be an integer from 1 to 32768, got 32769"),
        ({"width": 2, "bits": 4}, "bits must not be given for rows that are product codes, got 4"),
        ({"width": 2, "sparse": True}, "sparse must not be given for rows that are product codes, got True"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ProductCodebookEmbedding(CODES, 5, **options)


def test_a_codebook_without_rows_is_encoded_to_none():
    module = ProductCodebookEmbedding(np.empty(0, np.int64), 4, width=2)
    module.encode()
    assert module.weight.shape == (0, 4)
