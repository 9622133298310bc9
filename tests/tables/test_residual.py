"""Codebooks with residuals: what they are, how they train, and how a trained table becomes one."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu.errors import InputError
from baco_gpu.tables import CodebookEmbedding, ResidualCodebookEmbedding
from baco_gpu.training.trainer import reset_embeddings

CODES = [3, 1, 3, 9, 1, 3]
SECONDARY = [1, -1, 9, 3, 3, -1]


def filled(**options) -> ResidualCodebookEmbedding:
    """A module whose residuals are not zero."""
    module = ResidualCodebookEmbedding(CODES, 8, SECONDARY, residual_dim=2, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.codebook.normal_(generator=generator)
        module.basis.normal_(generator=generator)
        module.residual[:-1].normal_(generator=generator)
    return module


def expected_table(module: ResidualCodebookEmbedding, ids: list[int]) -> torch.Tensor:
    shared = CodebookEmbedding(CODES, 8, SECONDARY, padding_idx=module.padding_idx)
    with torch.no_grad():
        shared.codebook.copy_(module.codebook)
        table = shared.weight.clone()
        for row, index in enumerate(ids):
            table[index] += module.residual[row] @ module.basis
    return table


@pytest.mark.parametrize(
    ("options", "ids"),
    [({}, [0, 1, 2, 3, 4, 5]), ({"residual_ids": [4, 1]}, [4, 1]), ({"residual_ids": [], "padding_idx": 0}, [])],
)
def test_a_row_is_the_shared_one_and_a_residual_where_there_is_one(options, ids):
    module = filled(**options)
    table = expected_table(module, ids)
    torch.testing.assert_close(module.weight.detach(), table)
    indices = torch.tensor([[5, 0, 1], [4, 4, 2]])
    torch.testing.assert_close(module(indices).detach(), table[indices])
    torch.testing.assert_close(module.expand().weight.detach(), table)
    assert module(torch.empty((0, 2), dtype=torch.int64)).shape == (0, 2, 8)


def test_it_starts_as_the_plain_codebook_of_the_same_seed():
    plain, ours = CodebookEmbedding(CODES, 8, SECONDARY), ResidualCodebookEmbedding(CODES, 8, SECONDARY, residual_dim=3)
    for module in (plain, ours):
        reset_embeddings(module, 0.1, seed=5)
    assert torch.equal(plain.weight, ours.weight)
    assert not ours.residual.any()
    again = ResidualCodebookEmbedding(CODES, 8, SECONDARY, residual_dim=3)
    reset_embeddings(again, 0.1, seed=5)
    assert torch.equal(again.basis, ours.basis)


def test_gradients_reach_all_three_and_never_the_row_of_ids_without_a_residual():
    module = filled(residual_ids=[0, 3], padding_idx=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1, weight_decay=0.1)
    before = copy.deepcopy(module)
    for table in (lambda: module.weight, lambda: module(torch.arange(6))):
        optimizer.zero_grad()
        (table() * torch.arange(48.0).reshape(6, 8)).sum().backward()
        assert not module.residual.grad[-1].any()
        optimizer.step()
    assert not module.residual[-1].any()
    assert not module.weight[1].any(), "padding"
    for name in ("codebook", "residual", "basis"):
        assert not torch.equal(getattr(module, name), getattr(before, name)), name


def test_gradcheck():
    module = filled(residual_ids=[2, 5]).double()
    inputs = [parameter.detach().clone().requires_grad_() for parameter in (module.residual, module.basis)]

    def lookup(residual, basis):
        return torch.func.functional_call(module, {"residual": residual, "basis": basis}, torch.tensor([0, 2, 5, 5]))

    inputs[0].data[-1] = 0
    analytic = torch.autograd.grad(lookup(*inputs).square().sum(), inputs)
    step = 1e-6
    for which, index in ((0, (0, 1)), (1, (1, 3))):
        moved = [tensor.detach().clone() for tensor in inputs]
        moved[which][index] += step
        numeric = (lookup(*moved).square().sum() - lookup(*inputs).square().sum()) / step
        torch.testing.assert_close(analytic[which][index], numeric.detach(), rtol=1e-4, atol=1e-6)


def test_a_trained_table_keeps_what_that_rank_can_keep():
    generator = torch.Generator().manual_seed(1)
    codes = np.arange(60) % 5
    cluster = torch.randn(5, 12, generator=generator)
    own = torch.randn(60, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    table = cluster[codes] + own
    exact = ResidualCodebookEmbedding.from_pretrained(table, codes, residual_dim=3)
    torch.testing.assert_close(exact.weight.detach(), table, rtol=1e-4, atol=1e-4)

    noisy = table + torch.randn(60, 12, generator=generator)
    plain = CodebookEmbedding.from_pretrained(noisy, codes)
    left = noisy - plain.weight.detach()
    module = ResidualCodebookEmbedding.from_pretrained(noisy, codes, residual_dim=3)
    best = torch.linalg.svdvals(left.double())[3:].square().sum()
    torch.testing.assert_close((noisy - module.weight).double().square().sum().detach(), best, rtol=1e-4, atol=1e-4)

    few = ResidualCodebookEmbedding.from_pretrained(
        nn.Embedding.from_pretrained(noisy), codes, residual_dim=2, residual_ids=[7, 3]
    )
    untouched = torch.tensor([i for i in range(60) if i not in (3, 7)])
    torch.testing.assert_close(few.weight[untouched].detach(), plain.weight[untouched].detach())
    torch.testing.assert_close(few.weight[[3, 7]].detach(), noisy[[3, 7]], rtol=1e-4, atol=1e-4)


def test_accounting():
    everyone = filled()
    assert everyone.parameter_count == 3 * 8 + 4 + 6 * 2 + 2 * 8
    some = filled(residual_ids=[0, 1])
    assert some.parameter_count == 3 * 8 + 4 + 2 * 2 + 2 * 8 + 2
    assert some.nbytes == 4 * (3 * 8 + 3 * 2 + 2 * 8 + 3 * 6)
    assert "residual_dim=2, residual_ids=2" in repr(some)


def test_new_ids_have_no_residual_and_share_all_parameters():
    module = filled(residual_ids=[0, 5])
    grown = module.with_new_ids([9, 1], [-1, 3])
    torch.testing.assert_close(grown.weight[:6], module.weight)
    plain = CodebookEmbedding(CODES, 8, SECONDARY)
    with torch.no_grad():
        plain.codebook.copy_(module.codebook)
    torch.testing.assert_close(grown.weight[6:], plain.with_new_ids([9, 1], [-1, 3]).weight[6:])
    assert grown.residual is module.residual
    assert grown.basis is module.basis


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_residuals_follow_their_ids_to_where_they_are_now(padding_idx):
    module = filled(residual_ids=[0, 5], padding_idx=padding_idx)
    before, residual = module.weight.detach(), module.residual
    places = torch.tensor([1, 2, 4, 5, 6, 8])
    codes, second = np.full(9, 9), np.full(9, -1)
    codes[places], second[places] = CODES, SECONDARY
    module.resize(codes, second, places=places)
    torch.testing.assert_close(module.weight.detach()[places], before)
    assert module.padding_idx == (None if padding_idx is None else 5)
    assert module.residual is residual
    for new in (0, 3, 7):
        assert torch.equal(module(torch.tensor([new]))[0], module.codebook[2]), "a new id has its shared row alone"
    module.resize(np.full(9, 1))
    assert module.residual_rows[[1, 8]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("count", "places", "message"),
    [
        (9, None, "places must be given where 6 ids become 9, got None"),
        (5, None, "assignments must be of 6 ids or more, got 5"),
        (9, [0, 1, 2], r"places must have one entry an old id \(6\), got 3"),
        (9, [0, 1, 2, 3, 4, 9], "places must be from 0 to 8, got 9"),
        (9, [0, 1, 2, 3, 3, 4], "places must be distinct, got 3 more than once"),
        (9, [0, 1, 2, 3, 4, 0.5], "places must be integers, got float64"),
    ],
)
def test_residuals_never_go_to_other_ids(count, places, message):
    module = filled(residual_ids=[0, 5])
    before = module.weight.detach()
    with pytest.raises(InputError, match=message):
        module.resize(np.full(count, 1), places=places)
    assert torch.equal(module.weight, before)


def test_state_survives_a_file_and_a_foreign_index_is_refused():
    module = filled(residual_ids=[4, 1])
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = ResidualCodebookEmbedding(CODES, 8, SECONDARY, residual_dim=2, residual_ids=[0, 2])
    other.load_state_dict(torch.load(file))
    assert torch.equal(other.weight, module.weight)
    broken = module.state_dict()
    broken["residual_rows"] = torch.full((6,), 3, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"residual_rows must hold 0 to 2, got 3\.\.3"):
        other.load_state_dict(broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual_dim": 0}, "residual_dim must be"),
        ({"residual_dim": 9}, "residual_dim must be"),
        ({"residual_dim": 1, "residual_ids": [6]}, "residual_ids must be from 0 to 5, got 6"),
        ({"residual_dim": 1, "residual_ids": [-1]}, "residual_ids must be at least 0, got -1"),
        ({"residual_dim": 1, "residual_ids": [2, 0, 2]}, "residual_ids must name every id once, got 2 more than once"),
        ({"residual_dim": 1, "residual_ids": [0.5]}, "residual_ids must be integers"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        ResidualCodebookEmbedding(CODES, 8, **options)


def test_it_compiles_without_a_break():
    module = filled(residual_ids=[4, 1])
    indices = torch.tensor([0, 1, 4, 4])
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(indices), module(indices))
