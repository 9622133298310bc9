"""The `weight` of a table that holds no such matrix: what is written to it takes effect, or is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import (
    CodebookEmbedding,
    MixedCodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
)
from baco_gpu.errors import InputError

OWN = [3, 1, 0, 2]
SHARED = [0, 1, 0, 2]
OWN_ROWS = {
    "codebook": lambda **options: CodebookEmbedding(OWN, 4, **options),
    "codebook of 4 bits": lambda **options: CodebookEmbedding(OWN, 4, bits=4, **options),
    "sparse": lambda **options: CodebookEmbedding(OWN, 4, sparse=True, **options),
    "residual": lambda **options: ResidualCodebookEmbedding(OWN, 4, residual_dim=2, **options),
    "product": lambda **options: ProductCodebookEmbedding(OWN, 4, subspaces=2, **options),
    "encoded": lambda **options: ProductCodebookEmbedding.from_pretrained(
        torch.tensor([[0.5] * 4, [1.0] * 4, [2.0] * 4, [-1.0] * 4]), OWN, subspaces=2, code_bits=16, **options
    ),
    "product of 8 bits": lambda **options: ProductCodebookEmbedding(OWN, 4, subspaces=2, row_bits=8, **options),
    "quantized": lambda **options: QuantizedEmbedding(4, 4, **options),
}
WRITES = {
    "init": lambda table: nn.init.constant_(table.weight, 0.5),
    "data": lambda table: table.weight.data.fill_(0.5),
    "data set": lambda table: setattr(table.weight, "data", torch.full((4, 4), 0.5)),
    "detached": lambda table: table.weight.detach().copy_(torch.full((4, 4), 0.5)),
    "rows": lambda table: [row.fill_(0.5) for row in table.weight.data],
    "places": lambda table: table.weight.data.__setitem__(slice(None), 0.5),
    "out": lambda table: torch.mul(torch.ones(4, 4), 0.5, out=table.weight.data),
    "foreach": lambda table: torch._foreach_copy_([table.weight.data], [torch.full((4, 4), 0.5)]),
    "view": lambda table: table.weight.data.view(-1).fill_(0.5),
}


@pytest.mark.parametrize("kind", OWN_ROWS)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_is_written_to_a_table_of_own_rows_is_there(kind, write, mode):
    table = OWN_ROWS[kind]()
    with mode():
        WRITES[write](table)
    torch.testing.assert_close(table.weight.detach(), torch.full((4, 4), 0.5), rtol=0, atol=0.05)
    torch.testing.assert_close(table(torch.tensor([2])).detach(), torch.full((1, 4), 0.5), rtol=0, atol=0.05)


@pytest.mark.parametrize("write", ["init", "data", "places"])
def test_padding_stays_zero_beside_other_rows_and_is_not_written_alone(write):
    table = CodebookEmbedding(OWN, 4, padding_idx=1)
    WRITES[write](table)
    assert table.weight.detach().tolist() == [[0.5] * 4, [0.0] * 4, [0.5] * 4, [0.5] * 4]
    table.weight.data[1].zero_()
    with pytest.raises(InputError, match="weight of the padding index 1 must stay zero"):
        table.weight.data[1] = 3.0


def test_a_row_that_one_id_owns_is_written_and_one_that_is_shared_is_refused():
    table = CodebookEmbedding(SHARED, 4)
    before = table.weight.detach().clone()
    table.weight.data[1] = 7.0
    assert table.codebook[1].tolist() == [7.0] * 4
    assert torch.equal(table.weight[[0, 2, 3]], before[[0, 2, 3]])
    with torch.no_grad():
        table.weight[3].fill_(2.0)
        table.weight.mul_(0.5)  # of ids that share a row, both alike
    assert table.codebook[:, 0].tolist() == [float(before[0, 0]) * 0.5, 3.5, 1.0]
    for write in (lambda: nn.init.xavier_uniform_(table.weight), lambda: table.weight.data[2].fill_(1.0)):
        before = table.codebook.detach().clone()
        with pytest.raises(InputError, match=r"weight of id . cannot be as written, since rows are shared"):
            write()
        assert torch.equal(table.codebook, before)
    means = CodebookEmbedding([0, 1, 2], 4, [1, -1, -1])
    with pytest.raises(InputError, match="cannot be as written"):
        means.weight.data[0] = 1.0
    mixed = MixedCodebookEmbedding(OWN, 4, [[0], [1], [2], [3]], own_share=0.5)
    with pytest.raises(InputError, match="cannot be as written"):
        nn.init.normal_(mixed.weight)


def test_what_cannot_be_told_is_refused():
    table = CodebookEmbedding(OWN, 4)
    with pytest.raises(InputError, match=r"under torch\.no_grad"):
        table.weight[1] = 1.0
    with pytest.raises(InputError, match="weight of a CodebookEmbedding must not be replaced"):
        table.weight = nn.Parameter(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="read-only"):
        table.weight.detach().numpy()[0] = 1.0
    dropped = OWN_ROWS["encoded"]()
    dropped.drop_latent_weight()
    with pytest.raises(InputError, match="weight of id 0 cannot be as written"):
        nn.init.constant_(dropped.weight, 0.3)


LOST = {
    "hook": lambda weight: weight.register_hook(lambda gradient: gradient),
    "accumulated": lambda weight: weight.register_post_accumulate_grad_hook(lambda weight: None),
    "gradient": lambda weight: setattr(weight, "grad", torch.ones(4, 4)),
    "dlpack": lambda weight: torch.from_dlpack(weight.detach()),
    "numpy": lambda weight: np.from_dlpack(weight.detach()),
}


@pytest.mark.parametrize("kind", OWN_ROWS)
@pytest.mark.parametrize("way", LOST)
def test_what_a_weight_that_is_made_anew_cannot_keep_is_refused(kind, way):
    with pytest.raises(InputError, match=r"weight of a \w+ is made anew every time that it is read, and "):
        LOST[way](OWN_ROWS[kind]().weight)


@pytest.mark.parametrize("kind", OWN_ROWS)
@pytest.mark.parametrize("strict", [True, False])
def test_the_state_of_a_full_table_is_never_passed_over(kind, strict):
    with pytest.raises(RuntimeError, match=r"t\.weight is that of another table: baco_gpu\.rebuild_module makes"):
        nn.ModuleDict({"t": OWN_ROWS[kind]()}).load_state_dict({"t.weight": torch.ones(4, 4)}, strict=strict)


def test_padding_that_is_set_later_gets_no_gradient():
    table = CodebookEmbedding([0, 1, 0, 2, 2], 4)
    table.weight.sum().backward()
    for given, kept, wanted in ((-5, 0, [3.0, 2.0, 9.0]), (4, 4, [4.0, 2.0, 4.0]), (None, None, [4.0, 2.0, 9.0])):
        table.zero_grad()
        table.padding_idx = given
        assert table.padding_idx == kept
        (table.weight * torch.arange(1, 6).unsqueeze(1)).sum().backward()
        assert table.codebook.grad[:, 0].tolist() == wanted
    with pytest.raises(InputError, match="padding_idx must be an integer from -5 to 4, got 5"):
        table.padding_idx = 5


def test_freezing_by_weight_freezes():
    table = CodebookEmbedding(SHARED, 4)
    table.weight.requires_grad_(False)
    assert not table.codebook.requires_grad
    table.weight.requires_grad = True
    assert table.codebook.requires_grad
    assert table.weight.requires_grad


def test_what_is_made_of_it_is_a_plain_tensor():
    table = CodebookEmbedding(SHARED, 4)
    weight = table.weight
    for made in (
        weight * 2,
        weight[torch.tensor([0, 1])],
        nn.functional.linear(torch.ones(1, 4), weight),
        weight.clone(),
    ):
        assert type(made) is torch.Tensor
    for copied in (copy.deepcopy(weight.detach()), pickle.loads(pickle.dumps(weight.detach()))):
        assert type(copied) is torch.Tensor
        copied.zero_()
    assert repr(weight).startswith("tensor(")
    assert table.weight.any()
    weight.retain_grad()
    weight.sum().backward()
    assert torch.equal(weight.grad, torch.ones(4, 4))
    assert torch.equal(table.codebook.grad, torch.tensor([[2.0] * 4, [1.0] * 4, [1.0] * 4]))


@pytest.mark.parametrize("kind", OWN_ROWS)
def test_a_table_that_was_read_and_resized_under_inference_mode_trains_on(kind):
    table = OWN_ROWS[kind]()
    with torch.inference_mode():
        _ = table.weight, table(torch.tensor([0, 1]))
        if hasattr(table, "resize"):
            table.resize(np.array([*OWN, 0]), places=np.arange(4))
            _ = table.weight
    (table.weight.sum() + table(torch.tensor([1])).sum()).backward()
    taken = table.take_gradient()[1] if hasattr(table, "take_gradient") else None
    behind = getattr(table, "behind", None)
    gradient = behind.take_gradient()[1] if behind is not None else taken
    assert (table.codebook.grad.to_dense() if gradient is None else gradient).any()


@pytest.mark.parametrize("kind", OWN_ROWS)
def test_adapters_find_what_every_embedding_has(kind):
    table, plain = OWN_ROWS[kind](), nn.Embedding(4, 4)
    for name in ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq"):
        assert getattr(table, name) == getattr(plain, name), name
    assert isinstance(table.sparse, bool)
    assert (table.weight.shape, table.weight.dtype) == (plain.weight.shape, plain.weight.dtype)
