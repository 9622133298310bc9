"""Product codes of tables that were trained elsewhere."""

from __future__ import annotations

import pytest
import torch

from baco_gpu import export_codebook
from baco_gpu.budget import TableSize
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.experiment import encode_pretrained
from baco_gpu.methods.product_plan import ProductPlan
from baco_gpu.serving import load_codebooks
from baco_gpu.tables.embedding_table import encode
from baco_gpu.tables.encoding import rotate_together
from baco_gpu.tables.product import ProductCodebookEmbedding

pytestmark = pytest.mark.heavy("trains models")


def normal(rows, dim=32, seed=0, dtype=torch.float32):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(dtype=torch.float32):
    """Tables of few important directions, and of rows of very different lengths."""
    spread = torch.linspace(2, 0.2, 32, dtype=dtype)
    lengths = torch.linspace(0.2, 3, 300, dtype=dtype).unsqueeze(1)
    return normal(400, dtype=dtype) * spread, normal(300, seed=1, dtype=dtype) * spread * lengths


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("budget", "measure"), [(0.25, "parameters"), (0.12, "bytes"), (100, "parameters")])
def test_inner_products_are_about_those_of_the_tables(dtype, budget, measure):
    tables = trained(dtype)
    modules = users, items = encode_pretrained(*tables, budget, budget_measure=measure)
    plan = ProductPlan(*users.form[1:])
    size = TableSize(400, 300, 32, dtype.itemsize)
    if measure == "bytes":
        assert plan.bytes(size) <= budget * size.full_bytes
    else:
        assert plan.parameters(size) <= (100 * 32 if budget == 100 else budget * size.full_parameters)
    assert users.centroids is items.centroids
    assert users.weight.dtype == dtype
    assert users.scales is None
    assert items.scales is not None
    for module, table in zip(modules, tables, strict=True):
        left = float((module.weight - module.codebook).detach().square().sum() / table.square().sum())
        assert left < 1.5 * users.form.error
    wanted, found = tables[0] @ tables[1].T, (users.weight @ items.weight.T).detach()
    assert float((wanted - found).square().sum() / wanted.square().sum()) < 4 * users.form.error
    torch.testing.assert_close(items.weight.norm(dim=1), tables[1].norm(dim=1), rtol=0.5 / 128, atol=0)


def test_training_makes_the_same_codes():
    tables = trained()
    encoded = encode_pretrained(*tables, 0.2, seed=3)
    again = encode_pretrained(*tables, 0.2, seed=3)
    size = TableSize(400, 300, 32)
    in_training = ProductPlan(*encoded[0].form[1:]).tables(size)
    with torch.no_grad():
        for module, table in zip(in_training, tables, strict=True):
            module.codebook.copy_(table)
    encode(in_training, 3)
    for one, other, trained_on in zip(encoded, again, in_training, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])
            assert torch.equal(tensor, trained_on.state_dict()[name])


def test_codes_can_be_exported(tmp_path):
    users, items = encode_pretrained(*trained(), 0.2)
    export_codebook({"users": users, "items": items}, tmp_path / "tables.safetensors")
    served = load_codebooks(tmp_path / "tables.safetensors")
    assert torch.equal(torch.from_numpy(served["items"].lookup([7, 0])), items.weight[[7, 0]])
    assert users.has_latent_weight


@pytest.mark.parametrize(
    ("users", "items", "options", "message"),
    [
        (
            normal(9),
            normal(9, 16),
            {},
            r"items must be floats of shape \(ids, 32\), got torch.float32 of shape \(9, 16\)",
        ),
        (
            normal(9)[0],
            normal(9),
            {},
            r"users must be floats of shape \(ids, dim\), got torch.float32 of shape \(32,\)",
        ),
        (normal(9).int(), normal(9), {}, r"users must be floats .*, got torch.int32"),
        (normal(9), normal(9) / 0, {}, "items must be finite, got NaN or infinity"),
        (normal(9), normal(9), {"budget": 2.0}, "budget must be"),
        (normal(9), normal(9), {"budget_measure": "rows"}, "budget_measure must be"),
        (normal(900), normal(900), {"seed": -1}, "seed must be an integer at least 0, got -1"),
    ],
)
def test_what_cannot_be_encoded_is_refused(users, items, options, message):
    with pytest.raises(InputError, match=message):
        encode_pretrained(users, items, **options)


def test_a_budget_may_be_out_of_reach():
    with pytest.raises(
        UnreachableBudgetError,
        match="budget must buy a byte for every row and the values of 256 states, at least 406 parameters",
    ):
        encode_pretrained(normal(9), normal(9), 0.001)


def test_tables_cut_otherwise_are_not_rotated_together():
    one, other = (ProductCodebookEmbedding([0, 1], 6, subspaces=subspaces) for subspaces in (2, 3))
    with pytest.raises(InputError, match="modules must have the same form to be rotated together"):
        rotate_together([one, other])
