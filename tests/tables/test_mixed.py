"""Codebooks whose ids mix many rows: what their rows are, what they cost, and one codebook in two modules."""

import copy

import numpy as np
import pytest
import torch

from baco_gpu.errors import InputError
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.tables.residual import ResidualMixedCodebookEmbedding

CODES = [3, 1, 3, 9, 1, 3]
NEAR = [[1, 1], [-1, -1], [9, 3], [3, 12], [3, 3], [9, 9]]
LABELS = [1, 3, 9, 12]


def filled(kind=MixedCodebookEmbedding, **options):
    module = kind(CODES, 4, NEAR, **{"labels": LABELS, "own_share": 0.2, **options})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
        if hasattr(module, "residual"):
            module.residual[-1] = 0
    return module


def expected_table(module):
    rows = dict(zip(LABELS, module.codebook.detach().double(), strict=True))
    table = []
    for code, near in zip(CODES, NEAR, strict=True):
        mean = sum(rows[code if label == -1 else label] for label in near) / len(near)
        table.append(module.own_share * rows[code] + (1 - module.own_share) * mean)
    return torch.stack(table).to(module.codebook.dtype)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("own_share", [0.0, 0.2, 1.0])
def test_a_row_is_a_share_of_its_own_and_the_mean_of_the_others(sparse, own_share):
    module = filled(sparse=sparse, own_share=own_share)
    table = expected_table(module)
    torch.testing.assert_close(module.weight.detach(), table)
    indices = torch.tensor([[5, 0, 1], [4, 4, 2]])
    torch.testing.assert_close(module(indices).detach(), table[indices])
    assert module(torch.empty((0, 2), dtype=torch.int64)).shape == (0, 2, 4)
    torch.testing.assert_close(module.expand().weight.detach(), table)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lookups_and_the_whole_table_have_one_gradient(dtype):
    module = filled(dtype=dtype)
    upstream = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = [
        torch.autograd.grad(table, module.codebook, upstream)[0] for table in (module.weight, module(torch.arange(6)))
    ]
    torch.testing.assert_close(*gradients)
    assert not gradients[0].isnan().any()


def test_gradients_are_those_of_the_rule():
    module = filled().double()
    assert [name for name, _ in module.named_parameters()] == ["codebook"]

    def looked_up(codebook):
        return torch.func.functional_call(module, {"codebook": codebook}, torch.tensor([5, 0, 5, 2]))

    assert torch.autograd.gradcheck(looked_up, module.codebook.detach().requires_grad_())


def test_compiled_lookups_are_the_same():
    module = filled()
    compiled = torch.compile(lambda indices: module(indices), backend="aot_eager", fullgraph=True)
    indices = torch.tensor([0, 3, 3, 5])
    torch.testing.assert_close(compiled(indices), module(indices))


def test_indices_that_are_not_the_own_row_cost_a_parameter_each():
    module = filled()
    assert module.parameter_count == 4 * 4 + (2 + 0 + 1 + 2 + 2 + 2)
    assert module.nbytes == 4 * (4 * 4 + 6 + 6 * 2)
    assert "secondary_rows=2, own_share=0.2" in repr(module)


def test_two_tables_hold_one_codebook():
    users, items = filled(), MixedCodebookEmbedding([12, 1, 9], 4, [[1, 1], [3, 3], [12, 12]], labels=LABELS)
    items.codebook = users.codebook
    both = torch.nn.ModuleList([users, items])
    assert len(list(both.parameters())) == 1
    (users.weight.sum() + items.weight.sum()).backward()
    assert users.codebook.grad.all()
    assert both.double()[0].codebook is both[1].codebook


class Scores(torch.nn.Module):
    """Inner products of users and items of one codebook."""

    def __init__(self):
        super().__init__()
        self.users = filled(ResidualMixedCodebookEmbedding, residual_dim=2, residual_ids=[0, 4])
        self.items = MixedCodebookEmbedding([12, 1, 9], 4, [[1, 1], [3, 3], [12, 12]], labels=LABELS)
        self.items.codebook = self.users.codebook

    def forward(self, users, items):
        return (self.users(users) * self.items(items)).sum(-1)


def test_a_model_of_one_codebook_is_copied_exported_and_stored(tmp_path):
    model = Scores()
    batch = torch.tensor([0, 4, 4, 1]), torch.tensor([2, 2, 0, 1])
    torch.save(model, tmp_path / "model.pt")
    copies = [copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)]
    for other in copies:
        assert other.users.codebook is other.items.codebook is not model.users.codebook
        assert torch.equal(other(*batch), model(*batch))
    size = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, batch, dynamic_shapes=({0: size}, {0: size})).module()
    longer = torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(exported(*longer), model(*longer))


def test_new_ids_and_other_codes():
    module = filled()
    table = expected_table(module)
    grown = module.with_new_ids([9, 1], [[3, 3], [-1, -1]])
    assert grown.codebook is module.codebook
    torch.testing.assert_close(grown.weight[:6].detach(), table)
    rows = dict(zip(LABELS, module.codebook.detach(), strict=True))
    torch.testing.assert_close(grown.weight[6].detach(), 0.2 * rows[9] + 0.8 * rows[3])
    torch.testing.assert_close(grown.weight[7].detach(), rows[1])
    module.resize([9, *CODES], [[3, 3], *NEAR])
    torch.testing.assert_close(module.weight[1:].detach(), table)


def test_quantized_rows_are_mixed():
    module = filled(bits=8)
    assert module.nbytes == (4 * 4 + 4) + 4 * 18
    plain = expected_table(module)
    assert not torch.equal(module.weight.detach(), plain)
    torch.testing.assert_close(module.weight.detach(), plain, atol=0.03, rtol=0)


def test_residuals_are_added_to_the_mixture():
    module = filled(ResidualMixedCodebookEmbedding, residual_dim=2, residual_ids=[0, 4])
    table = expected_table(module)
    table[[0, 4]] += (module.residual[:2] @ module.basis).detach()
    torch.testing.assert_close(module.weight.detach(), table)
    torch.testing.assert_close(module(torch.tensor([4, 3])).detach(), table[[4, 3]])
    assert module.parameter_count == filled().parameter_count + 2 * 2 + 2 * 4 + 2
    other = ResidualMixedCodebookEmbedding(
        CODES, 4, NEAR, labels=LABELS, own_share=0.2, residual_dim=2, residual_ids=[0, 4]
    )
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.weight, module.weight)
    with pytest.raises(InputError, match="from_pretrained must be called of a table whose ids do not mix rows"):
        ResidualMixedCodebookEmbedding.from_pretrained(torch.zeros(6, 4), CODES, NEAR)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secondary": None}, "secondary must be given"),
        ({"secondary": [[1], [2]]}, r"secondary must be as long as assignments \(6\), got 2"),
        ({"secondary": [[8]] * 6}, "secondary must be labels of the codebook, got 8"),
        ({"secondary": np.ones((6, 1, 1), int)}, r"secondary must have one dimension or two, got shape \(6, 1, 1\)"),
        ({"own_share": 1.5}, "own_share must be"),
        ({"labels": [1, 3]}, "assignments must be labels of the codebook, got 9"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(InputError, match=message):
        MixedCodebookEmbedding(CODES, 4, **{"secondary": NEAR, "labels": LABELS, **options})
    with pytest.raises(InputError, match="indices must be from 0 to 5, got 6"):
        filled()(torch.tensor([6]))
