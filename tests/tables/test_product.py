"""Product codes: centroids near the rows, rows put together of them, and gradients that reach both."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from baco_gpu import CodebookEmbedding, ProductCodebookEmbedding
from baco_gpu.errors import InputError
from baco_gpu.ops import product_quantization
from baco_gpu.ops.product_quantization import balanced_rotation, codewords, fit_centroids, nearest_codes, read, store
from baco_gpu.precision import ProductFormat
from baco_gpu.tables import product
from baco_gpu.tables.encoding import encode_together, rotate_together

pytestmark = pytest.mark.heavy("trains models")

CODES = np.array([0, 3, 3, 7, 0, 9, 7, 7])
SECONDARY = np.array([3, -1, 0, 9, 9, -1, 0, 3])
EVERY_ROW = torch.arange(4)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def encoded(secondary=SECONDARY, *, seed=0, **options):
    torch.manual_seed(seed)
    module = ProductCodebookEmbedding(CODES, 5, secondary, **{"subspaces": 3, "centroids": 3, **options})
    module.encode(seed)
    return module


def put_together(centroids, numbers, form):
    """Rows of the numbers, value by value."""
    rows = []
    for row in read(numbers).tolist():
        values = []
        for place, number in enumerate(row):
            width = form.dim // form.subspaces + (place < form.dim % form.subspaces)
            centroid = centroids[number >> form.signs][:width].clone()
            for value in range(min(width, form.signs)):
                if number >> value & 1:
                    centroid[value] *= -1
            values.append(centroid)
        rows.append(torch.cat(values))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("form", "width", "wide", "signs"),
    [
        (ProductFormat(64, 16, 4096, 16), 4, 16, 4),
        (ProductFormat(64, 16, 8192, 16), 4, 16, 3),
        (ProductFormat(64, 16, 256, 8), 4, 16, 0),
        (ProductFormat(64, 16, 64, 8), 4, 16, 2),
        (ProductFormat(64, 7, 1024, 16), 10, 1, 6),
        (ProductFormat(64, 7, 64, 16), 10, 1, 10),
        (ProductFormat(64, 64, 65, 16), 1, 64, 1),
        (ProductFormat(5, 5, 1, 8), 1, 5, 1),
    ],
)
def test_numbers_are_used_up(form, width, wide, signs):
    assert (form.width, form.wide, form.signs, form.codewords) == (width, wide, signs, form.centroids << signs)
    assert len(form.places) == form.dim == form.wide * width + (form.subspaces - form.wide) * (width - 1)
    assert form.codewords <= 1 << form.code_bits


# Of normally distributed values one by one, where Zador's formula is Panter and Dite's, and two by two.
@pytest.mark.parametrize(
    ("form", "error"),
    [
        (ProductFormat(3, 3, 128, 8), 3**0.5 * np.pi / 2 / 4**8),
        (ProductFormat(4, 2, 256, 8), 2 / 2**8),
        (ProductFormat(3, 2, 64, 8), (2 * 2 / 2**8 + 3**0.5 * np.pi / 2 / 4**7) / 3),
    ],
)
def test_what_is_rounded_away_is_known_for_values_by_ones_and_twos(form, error):
    assert form.error == pytest.approx(error)


@pytest.mark.parametrize(
    "form", [ProductFormat(8, 2, 1024, 16), ProductFormat(8, 4, 128, 8), ProductFormat(8, 3, 256, 8)]
)
def test_normally_distributed_rows_err_about_as_much_as_is_known(form):
    rows = normal(8_000, 8)
    centroids = fit_centroids(rows, form, 0)
    stored = put_together(centroids, nearest_codes(rows, centroids, form), form)
    assert 0.9 < float((rows - stored).square().sum() / rows.square().sum()) / form.error < 1.25


@st.composite
def formats(draw):
    dim = draw(st.integers(1, 9))
    return ProductFormat(dim, draw(st.integers(1, dim)), draw(st.integers(1, 40)), draw(st.sampled_from([8, 16])))


@given(formats(), st.integers(1, 30), st.integers(0, 9))
def test_nothing_is_nearer_than_what_a_number_stands_for(form, rows, seed):
    table, centroids = normal(rows, form.dim, seed=seed), normal(form.centroids, form.width, seed=seed + 1)
    numbers = nearest_codes(table, centroids, form)
    assert (numbers.dtype, numbers.shape) == (store(torch.zeros(1), form).dtype, (rows, form.subspaces))
    every = codewords(centroids, form)
    assert torch.equal(
        every,
        put_together(centroids, torch.arange(form.codewords).unsqueeze(1), form._replace(dim=form.width, subspaces=1)),
    )
    stored = put_together(centroids, numbers, form)
    widths = [form.width] * form.wide + [form.width - 1] * (form.subspaces - form.wide)
    for pieces, found in zip(table.split(widths, dim=1), stored.split(widths, dim=1), strict=True):
        distances = torch.cdist(pieces, every[:, : pieces.shape[1]], compute_mode="donot_use_mm_for_euclid_dist")
        torch.testing.assert_close((pieces - found).norm(dim=1), distances.amin(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bits", "dtype", "last"), [(8, torch.uint8, 255), (16, torch.int16, 65535)])
def test_a_number_may_have_all_of_its_bits(bits, dtype, last):
    form = ProductFormat(1, 1, 1 << bits, bits)
    centroids = torch.arange(1 << bits, dtype=torch.float64).unsqueeze(1)
    numbers = nearest_codes(torch.tensor([[0], [last], [7]], dtype=torch.float64), centroids, form)
    assert (numbers.dtype, read(numbers).tolist()) == (dtype, [[0], [last], [7]])
    assert torch.equal(store(read(numbers), form), numbers)


def test_k_means_finds_groups_and_repeats():
    centres = torch.tensor([[0.0, 0, 9, 9, 0], [9, 9, 0, 0, 9], [0, 9, 9, 9, 0]])  # pieces 00, 99 and 09
    rows = centres.repeat_interleave(40, 0)[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    noisy, form, errors = rows + 0.01 * normal(120, 5), ProductFormat(5, 3, 3, 16), []
    for seed in range(8):
        centroids = fit_centroids(noisy, form, seed)
        assert torch.equal(centroids, fit_centroids(noisy, form, seed))
        assert centroids.shape == (3, 2)
        stored = put_together(centroids, nearest_codes(noisy, centroids, form), form)
        errors.append(float((stored - noisy).square().mean()))
    assert min(errors) < 1e-3


@pytest.mark.parametrize("form", [ProductFormat(6, 2, 8, 16), ProductFormat(6, 4, 8, 8), ProductFormat(6, 2, 200, 8)])
def test_k_means_takes_the_mean_of_the_pieces_of_a_centroid(form, monkeypatch):
    rows = normal(120, 6)
    before, after = (fit_with(rounds, rows, form, monkeypatch) for rounds in (1, 2))
    assert (after[:, : form.signs] >= 0).all()
    numbers = read(nearest_codes(rows, before, form)).long() >> form.signs
    widths, ends = [form.width] * form.wide + [form.width - 1] * (form.subspaces - form.wide), 0
    sums, sizes = torch.zeros_like(before), torch.zeros_like(before)
    for place, width in enumerate(widths):
        pieces = rows[:, ends : ends + width].clone()
        pieces[:, : form.signs] = pieces[:, : form.signs].abs()
        for piece, number in zip(pieces, numbers[:, place].tolist(), strict=True):
            sums[number, :width] += piece
            sizes[number, :width] += 1
        ends += width
    torch.testing.assert_close(after, torch.where(sizes > 0, sums / sizes.clamp(min=1), before))
    assert (after - before).norm() > 1e-3


def fit_with(rounds, rows, form, monkeypatch):
    monkeypatch.setattr(product_quantization, "_ROUNDS", rounds)
    return fit_centroids(rows, form, 0)


def test_as_many_centroids_as_pieces_leave_no_error():
    rows, form = normal(12, 8), ProductFormat(8, 2, 24, 16)
    centroids = fit_centroids(rows, form, 3)
    assert torch.equal(put_together(centroids, nearest_codes(rows, centroids, form), form), rows)


def test_of_many_pieces_those_that_are_looked_at_are_drawn_one_by_one(monkeypatch):
    groups = normal(5, 3) * 10
    rows = groups[torch.arange(4000) % 5] + 0.01 * normal(4000, 3, seed=1)
    monkeypatch.setattr(product_quantization, "_MOST_PERMUTED", 3999)
    centroids = fit_centroids(rows, ProductFormat(3, 1, 20, 8), 0)
    assert (torch.cdist(groups.abs(), centroids.abs()).min(dim=1).values < 0.1).all()


@pytest.mark.parametrize("row_bits", [None, 8])
def test_encoding_has_parts_of_the_table_as_floats_at_a_time(monkeypatch, row_bits):
    def coded(block):
        monkeypatch.setattr(product, "_BLOCK", block)
        torch.manual_seed(0)
        tables = [
            ProductCodebookEmbedding(np.arange(size), 6, subspaces=3, centroids=8, lengths=True, row_bits=row_bits)
            for size in (30, 20)
        ]
        tables[1].centroids = tables[0].centroids
        sizes = []
        read = ProductCodebookEmbedding.latent_rows
        monkeypatch.setattr(
            ProductCodebookEmbedding, "latent_rows", lambda self, rows=None: (sizes.append(rows), read(self, rows))[1]
        )
        rotate_together(tables)
        encode_together(tables, 1)
        monkeypatch.undo()
        assert all(rows is not None for rows in sizes)
        return [tensor for table in tables for tensor in (table.codes, table.scales, table.centroids)]

    for one, other in zip(coded(1 << 16), coded(7), strict=True):
        torch.testing.assert_close(one, other)


def test_signs_leave_less_error():
    rows, errors = normal(2000, 8), []
    for bits in (8, 16):
        form = ProductFormat(8, 2, 256, bits)
        centroids = fit_centroids(rows, form, 0)
        stored = put_together(centroids, nearest_codes(rows, centroids, form), form)
        errors.append(float((stored - rows).square().mean()))
    # Four bits more for four dimensions are a quarter of the error, as long as there are pieces enough to learn from.
    assert errors[1] < 0.35 * errors[0]


def test_a_tree_finds_what_comparing_with_all_centroids_does(monkeypatch):
    rows, centroids, form = normal(300, 10), normal(1500, 5, seed=1), ProductFormat(10, 2, 1500, 16)
    found = nearest_codes(rows, centroids, form)
    assert torch.equal(found, nearest_codes(rows, nn.Parameter(centroids), form))
    monkeypatch.setattr(product_quantization, "_MANY", 1501)
    assert torch.equal(found, nearest_codes(rows, centroids, form))


def test_tables_may_share_their_centroids():
    users, items = (ProductCodebookEmbedding(np.arange(9), 4, subspaces=2, centroids=8) for _ in range(2))
    with torch.no_grad():  # two pieces in each table, others in the other one
        users.codebook.copy_(torch.tensor([0.0, 1, 2, 3]).repeat(9, 1))
        items.codebook.copy_(torch.tensor([4.0, 5, 6, 7]).repeat(9, 1))
    with pytest.raises(InputError, match="must have the same centroids to be encoded together, got several"):
        encode_together([users, items])
    items.centroids = users.centroids
    whole = ProductCodebookEmbedding(np.arange(9), 4, subspaces=1, centroids=8)
    whole.centroids = users.centroids
    with pytest.raises(InputError, match=r"same form to be encoded together, got .*subspaces=2.* and .*subspaces=1"):
        encode_together([users, whole])
    errors = []
    for seed in range(8):
        encode_together([users, items], seed)
        errors.append(float(sum((table.weight - table.codebook).detach().square().sum() for table in (users, items))))
    assert min(errors) == 0
    assert users.encoded
    assert items.encoded


@pytest.mark.parametrize("pieces", [1, 2, 3, 8])
def test_a_rotation_changes_no_product_and_balances_subspaces(pieces):
    skewed = normal(400, 8) * torch.tensor([9.0, 5, 3, 1, 1, 0.5, 0.1, 0.01])
    mixed, other = skewed @ torch.linalg.qr(normal(8, 8, seed=2)).Q, normal(300, 8, seed=3)
    rotation = balanced_rotation([part.T @ part for part in (mixed, mixed[:50])], pieces).float()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close((mixed @ rotation) @ (other @ rotation).T, mixed @ other.T, rtol=1e-4, atol=1e-3)
    if pieces == 2:
        variances = (mixed @ rotation).square().mean(0).log().view(2, 4).sum(1)
        before = mixed.square().mean(0).log().view(2, 4).sum(1)
        assert abs(variances[0] - variances[1]) < 5  # in the order of their variance it would be more than 20
        assert variances.sum() < before.sum() - 3  # what is left after rounding goes with the product of variances


def test_rows_are_floats_until_they_are_encoded():
    module = ProductCodebookEmbedding(CODES, 5, SECONDARY, subspaces=3, centroids=2)
    plain = CodebookEmbedding(CODES, 5, SECONDARY)
    with torch.no_grad():
        plain.codebook.copy_(module.codebook)
    assert not module.encoded
    assert torch.equal(module.weight, plain.weight)
    module.encode()
    assert module.encoded
    assert not torch.equal(module.weight, plain.weight)
    module.fake_quantization = False
    assert torch.equal(module(torch.arange(8)), plain.weight)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subspaces": 2, "code_bits": 16},
        {"subspaces": 1, "centroids": 200, "code_bits": 8},
        {"subspaces": 5, "centroids": 2},  # fewer pieces that there are numbers for than pieces
        {"dtype": torch.float16},
    ],
)
@pytest.mark.parametrize("secondary", [None, SECONDARY])
def test_rows_are_put_together_of_their_centroids(options, secondary):
    module = encoded(secondary, **options)
    rows = put_together(module.centroids.detach(), module.codes, module.form)
    found = nearest_codes(module.codebook.detach(), module.centroids.detach(), module.form)
    assert torch.equal(module.codes, found)
    plain = CodebookEmbedding(CODES, 5, secondary, dtype=rows.dtype)
    with torch.no_grad():
        plain.codebook.copy_(rows)
    assert torch.equal(module.weight, plain.weight)
    for ids in (torch.arange(8), torch.tensor([[5, 2], [2, 0]]), torch.tensor(3), torch.empty(0, dtype=torch.int64)):
        assert torch.equal(module(ids), plain(ids))


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 1}, {"secondary": None}, {"centroids": 2, "subspaces": 5, "secondary": None}]
)
def test_gradients_reach_the_centroids_and_pass_through_to_the_floats(ids, options):
    module = encoded(**options, dtype=torch.float64)
    plain = CodebookEmbedding(CODES, 5, options.get("secondary", SECONDARY), padding_idx=module.padding_idx).double()
    pull = normal(len(ids), 5, dtype=torch.float64)
    (module(ids) * pull).sum().backward()
    (plain(ids) * pull).sum().backward()
    torch.testing.assert_close(module.codebook.grad, plain.codebook.grad)
    centroids = module.centroids.detach().clone().requires_grad_()
    put_together(centroids, module.codes, module.form).backward(plain.codebook.grad)
    wanted = centroids.grad
    assert wanted.any()
    torch.testing.assert_close(module.centroids.grad, wanted)
    whole = copy.deepcopy(module)
    whole.zero_grad()
    (whole.weight[ids] * pull).sum().backward()
    torch.testing.assert_close(whole.centroids.grad, wanted)
    torch.testing.assert_close(whole.codebook.grad, plain.codebook.grad)


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize("secondary", [None, SECONDARY])
def test_lengths_make_rows_as_long_as_their_floats(ids, secondary):
    plain, module = (encoded(secondary, lengths=lengths, dtype=torch.float64) for lengths in (False, True))
    assert torch.equal(module.codes, plain.codes)
    rows, directions = module._stored(None).detach(), plain._stored(None).detach()
    ratios = module.codebook.norm(dim=1) / directions.norm(dim=1)
    torch.testing.assert_close(rows, directions * ratios.detach().unsqueeze(1), rtol=0.5 / 128, atol=0)
    assert (ratios - 1).abs().max() > 0.02
    torch.testing.assert_close(rows.norm(dim=1), module.codebook.detach().norm(dim=1), rtol=0.5 / 128, atol=0)
    own = CodebookEmbedding(CODES, 5, secondary, dtype=torch.float64)
    with torch.no_grad():
        own.codebook.copy_(rows)
    assert torch.equal(module.weight, own.weight)
    assert torch.equal(module(ids), own(ids))
    assert module.nbytes == plain.nbytes + 4
    assert module.parameter_count == plain.parameter_count + 1
    assert repr(module).endswith("code_bits=8, lengths=True)")
    pull = normal(len(ids), 5, dtype=torch.float64)
    (module(ids) * pull).sum().backward()
    (own(ids) * pull).sum().backward()
    torch.testing.assert_close(module.codebook.grad, own.codebook.grad)
    centroids = module.centroids.detach().clone().requires_grad_()
    scaled = put_together(centroids, module.codes, module.form) * product_quantization.length_values(module.scales)
    scaled.backward(own.codebook.grad)
    torch.testing.assert_close(module.centroids.grad, centroids.grad)


def test_lengths_of_rows_that_are_stored_as_nothing():
    rows = torch.tensor([[0.0, 0], [3, 4], [3, 4], [3, 4], [0, 0]])
    stored = torch.tensor([[0.0, 0], [0, 0], [4, 3], [300, 400], [1, 0]])
    values = product_quantization.length_values(product_quantization.lengths_of(rows, stored))
    assert values.flatten().tolist() == [1, 383 / 256, 1, 0.5, 0.5]


def test_floats_may_be_gone_back_to():
    module = encoded()
    module.forget_codes()
    assert not module.encoded
    plain = CodebookEmbedding(CODES, 5, SECONDARY)
    with torch.no_grad():
        plain.codebook.copy_(module.codebook)
    assert torch.equal(module.weight, plain.weight)
    module.encode()
    module.drop_latent_weight()
    with pytest.raises(InputError, match="they have been dropped"):
        module.forget_codes()


def test_codes_follow_the_floats_when_they_are_told_to():
    module = encoded(None)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.codebook.copy_(module.codebook.flip(0))
    assert torch.equal(module.weight, before)
    module.reassign()
    codes = module.assignments.long()
    assert torch.equal(module.weight, put_together(module.centroids.detach(), module.codes, module.form)[codes])
    assert not torch.equal(module.weight, before)


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize("secondary", [None, SECONDARY])
def test_without_floats_the_centroids_are_trained_alone(ids, secondary):
    module = encoded(secondary, dtype=torch.float64)
    twin = copy.deepcopy(module)
    twin.drop_latent_weight()
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
    fresh = ProductCodebookEmbedding(CODES, 5, secondary, subspaces=3, centroids=3, dtype=torch.float64)
    for source in (twin, module):  # a state without floats is taken by a module with them, and the other way round
        fresh.load_state_dict(source.state_dict())
        assert torch.equal(fresh.weight, module.weight)
        assert len(fresh.codebook) == len(source.codebook)
    with pytest.raises(InputError, match="must be encoded before"):
        ProductCodebookEmbedding(CODES, 5, subspaces=3).drop_latent_weight()


def test_a_trained_table_is_compressed():
    table = nn.Embedding.from_pretrained(normal(300, 16))
    errors = []
    for pieces in (2, 4, 8, 16):
        sizes = {"subspaces": pieces, "centroids": 16, "code_bits": 8}
        module = ProductCodebookEmbedding.from_pretrained(table, np.arange(300), **sizes, seed=1)
        assert torch.equal(module.codebook, table.weight)
        errors.append(float((module.weight - table.weight).detach().square().mean()))
    assert sorted(errors, reverse=True) == errors
    assert errors[-1] < 0.02


def test_a_trained_table_is_not_rounded_before_it_is_encoded():
    with pytest.raises(InputError, match="row_bits must not be given with a table of floats, got 8"):
        ProductCodebookEmbedding.from_pretrained(normal(4, 5), range(4), subspaces=2, row_bits=8)


def test_rows_that_are_not_finite_are_refused():
    module = ProductCodebookEmbedding(CODES, 5, subspaces=3)
    with torch.no_grad():
        module.codebook[1, 2] = float("nan")
    with pytest.raises(InputError, match="rows must be finite to be encoded, got NaN or infinity"):
        module.encode()
    assert not module.encoded


def test_what_it_costs():
    module = encoded(None)  # four rows of three pieces; three centroids of two values
    assert module.parameter_count == 3 * 2 + 4 * 3 / 4
    assert module.nbytes == 3 * 2 * 4 + 4 * 3 + 8 * 4
    own = ProductCodebookEmbedding(np.arange(8), 6, subspaces=2)
    assert own.parameter_count == 256 * 3 + 8 * 2 / 4
    assert own.nbytes == 256 * 3 * 4 + 8 * 2
    many = ProductCodebookEmbedding(np.arange(200), 6, subspaces=2, centroids=300, code_bits=16)
    assert many.nbytes == 300 * 3 * 4 + 200 * 2 * 2
    assert many.parameter_count == 300 * 3 + 200
    odd = ProductCodebookEmbedding(np.arange(5), 6, subspaces=1, centroids=2, code_bits=16, lengths=True)
    assert odd.parameter_count == 2 * 6 + 4  # 15 bytes of codes


def test_a_state_brings_its_codes_along():
    module, other = encoded(), ProductCodebookEmbedding(CODES, 5, SECONDARY, subspaces=3, centroids=3)
    other.load_state_dict(module.state_dict())
    assert other.fake_quantization
    assert torch.equal(other.weight, module.weight)
    other.load_state_dict(ProductCodebookEmbedding(CODES, 5, SECONDARY, subspaces=3, centroids=3).state_dict())
    assert not other.fake_quantization
    state = module.state_dict()
    state["codes"] = state["codes"].clone().fill_(12)
    with pytest.raises(RuntimeError, match="codes must be from 0 to 11, got up to 12"):
        other.load_state_dict(state)
    state["codes"] = state["codes"].to(torch.int16)
    with pytest.raises(RuntimeError, match=r"codes must be torch\.uint8, got torch\.int16"):
        other.load_state_dict(state)


def test_new_ids_get_rows_that_there_are():
    module = encoded()
    grown = module.with_new_ids([9, 0], [-1, 7])
    assert torch.equal(grown.weight[:8], module.weight)
    rows = put_together(module.centroids.detach(), module.codes, module.form)
    torch.testing.assert_close(grown.weight[8:].detach(), torch.stack([rows[3], (rows[0] + rows[2]) / 2]))
    assert grown.centroids is module.centroids
    module.resize([*CODES, 9], None)
    assert torch.equal(module(torch.tensor([8])).detach(), rows[3:])


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 6]), torch.arange(8).repeat(2)])
@pytest.mark.parametrize("options", [{}, {"secondary": SECONDARY}, {"padding_idx": 1}, {"lengths": True}])
def test_rows_of_few_bits_stand_in_for_floats(ids, options):
    few, plain = (
        ProductCodebookEmbedding(CODES, 5, **{"subspaces": 3, "centroids": 3, **options, "row_bits": bits})
        for bits in (6, None)
    )
    assert len(few.codebook) == 0
    plain.set_latent_rows(EVERY_ROW, few.latent_rows())

    def check_alike():
        assert torch.equal(few(ids), plain(ids))
        assert torch.equal(few.weight, plain.weight)
        for module in (few, plain):
            module.zero_grad()
            (module(ids).square().sum() + module.weight[2:4].sum()).backward()
        rows, gradient = few.latent_weight.take_gradient()
        wanted = plain.codebook.grad
        assert rows.tolist() == wanted.any(dim=1).nonzero().flatten().tolist()
        torch.testing.assert_close(gradient, wanted[rows])
        if few.fake_quantization:
            torch.testing.assert_close(few.centroids.grad, plain.centroids.grad)

    check_alike()
    for module in (few, plain):
        module.encode(1)
    assert torch.equal(few.codes, plain.codes)
    assert (few.nbytes, few.parameter_count) == (plain.nbytes, plain.parameter_count)
    check_alike()
    moved = few.latent_rows().flip(0) * 0.5
    few.set_latent_rows(EVERY_ROW, moved)
    assert (few.latent_rows() - moved).abs().max() < 0.05
    plain.set_latent_rows(EVERY_ROW, few.latent_rows())
    for module in (few, plain):
        module.reassign()
    check_alike()
    assert "row_bits=6" in repr(few)
    dropped, other = copy.deepcopy(few), copy.deepcopy(few)
    dropped.drop_latent_weight()
    assert dropped.latent_weight is None
    assert torch.equal(dropped.weight, few.weight)
    for source in (dropped, few):
        other.load_state_dict(source.state_dict())
        assert (other.latent_weight is None) == (source.latent_weight is None)
        assert torch.equal(other(ids), few(ids))
    assert torch.equal(few.with_new_ids([9]).weight[:8], few.weight)
    with pytest.raises(InputError, match="they have been dropped"):
        dropped.set_latent_rows(EVERY_ROW, moved)


def test_tables_of_few_bits_may_share_their_centroids():
    users, items = (
        ProductCodebookEmbedding(np.arange(size), 6, subspaces=3, centroids=8, row_bits=8) for size in (30, 20)
    )
    items.centroids = users.centroids
    before = users.latent_rows() @ items.latent_rows().T
    rotate_together([users, items])
    torch.testing.assert_close(users.latent_rows() @ items.latent_rows().T, before, rtol=0, atol=0.2)
    encode_together([users, items], seed=3)
    assert torch.equal(users.codes, nearest_codes(users.latent_rows(), items.centroids.detach(), users.form))


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
    assert repr(encoded(None)) == "ProductCodebookEmbedding(8, 5, num_rows=4, subspaces=3, centroids=3, code_bits=8)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subspaces": 0}, "subspaces must be an integer from 1 to 5, got 0"),
        ({"subspaces": 6}, "subspaces must be an integer from 1 to 5, got 6"),
        ({"subspaces": 3, "centroids": 257}, "centroids must be an integer from 1 to 256, got 257"),
        ({"subspaces": 3, "code_bits": 12}, "code_bits must be one of 8, 16, got 12"),
        ({"subspaces": 3, "row_bits": 9}, "bits must be one of .*, got 9"),
        ({"subspaces": 3, "bits": 4}, "bits must not be given for rows that are product codes, got 4"),
        ({"subspaces": 3, "sparse": True}, "sparse must not be given for rows that are product codes, got True"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ProductCodebookEmbedding(CODES, 5, **options)


def test_a_codebook_without_rows_is_encoded_to_none():
    module = ProductCodebookEmbedding(np.empty(0, np.int64), 4, subspaces=2)
    module.encode()
    assert module.weight.shape == (0, 4)
