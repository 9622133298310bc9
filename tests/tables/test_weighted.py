"""Codebooks of weighted rows: what their rows are, what they cost, and that new ids leave old ones alone."""

import numpy as np
import pytest
import torch

from baco_gpu.errors import InputError
from baco_gpu.tables import export_codebook
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

CODES, SECONDARY = [3, 1, 3, 9, 1, 3], [1, -1, 9, 3, 3, 9]


def filled(**options):
    """A module whose ids weigh their rows differently."""
    module = WeightedCodebookEmbedding(CODES, 4, SECONDARY, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.codebook.normal_(generator=generator)
        module.shares.uniform_(generator=generator)
    return module


def expected_table(module):
    first, second = module.codebook[module.assignments], module.codebook[module.secondary]
    return (module.shares[:, :1] * first + module.shares[:, 1:] * second).detach()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_row_is_the_weighted_sum_of_two(sparse):
    module = filled(sparse=sparse)
    table = expected_table(module)
    torch.testing.assert_close(module.weight.detach(), table)
    indices = torch.tensor([[5, 0, 1], [4, 4, 2]])
    torch.testing.assert_close(module(indices).detach(), table[indices])
    assert module(torch.empty((0, 2), dtype=torch.int64)).shape == (0, 2, 4)


def test_all_ids_start_with_the_given_shares():
    module = WeightedCodebookEmbedding(CODES, 4, SECONDARY, shares=(0.9, 0.1))
    assert np.allclose(module.shares, [[0.9, 0.1]] * 6)


def test_gradients_reach_the_codebook_alone():
    module = filled().double()
    assert [name for name, _ in module.named_parameters()] == ["codebook"]

    def table(codebook):
        return torch.func.functional_call(module, {"codebook": codebook}, torch.arange(6))

    assert torch.autograd.gradcheck(table, module.codebook.detach().requires_grad_())


def test_weights_count_as_parameters_and_as_bytes():
    module = filled()
    assert module.parameter_count == 3 * 4 + 5 + 2 * 6
    assert module.nbytes == 4 * (3 * 4 + 6 + 6 + 2 * 6)


@pytest.mark.parametrize("grow", [lambda module: module.with_new_ids([9, 1], [3, -1]), None])
def test_new_ids_are_means_and_old_ones_keep_their_shares(grow):
    module = filled()
    table = expected_table(module)
    if grow is None:
        grown = module
        grown.resize([*CODES, 9, 1], [*SECONDARY, 3, -1])
    else:
        grown = grow(module)
        assert grown.codebook is module.codebook
    torch.testing.assert_close(grown.weight[:6].detach(), table)
    rows = dict(zip(grown.labels.tolist(), grown.codebook.detach(), strict=True))
    torch.testing.assert_close(grown.weight[6].detach(), (rows[9] + rows[3]) / 2)
    torch.testing.assert_close(grown.weight[7].detach(), rows[1])


def test_shares_go_where_their_ids_go():
    module = filled()
    before = module.weight.detach()
    places = torch.tensor([1, 2, 4, 5, 6, 7])
    codes, second = torch.full((8,), 9), torch.full((8,), 1)
    codes[places], second[places] = torch.tensor(CODES), torch.tensor(SECONDARY)
    module.resize(codes, second, places=places)
    torch.testing.assert_close(module.weight.detach()[places], before)
    assert module.shares[[0, 3]].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_what_it_cannot_do_is_said(tmp_path):
    with pytest.raises(InputError, match="secondary must be given"):
        WeightedCodebookEmbedding(CODES, 4, None)
    with pytest.raises(InputError, match="a table must be a mean of rows to be served"):
        export_codebook(filled(), tmp_path / "table.safetensors")
