"""compress_module with tables that were built, one call between epochs, and rebuild_module."""

from __future__ import annotations

import copy

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
    RowwiseRMSprop,
    compress_module,
    export_codebook,
    rebuild_module,
)
from baco_gpu.errors import InputError
from baco_gpu.serving import load_codebook
from baco_gpu.tables import CombinedOptimizer, FullTable, TableBag, begin_epoch, finalize
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

pytestmark = pytest.mark.heavy("trains models")

COUNT, DIM = 12, 4
CODES, OWN = np.arange(COUNT) % 5, np.arange(COUNT)
NEAR = np.stack((np.roll(CODES, 1), np.roll(CODES, 2)), axis=1)
KINDS = {
    "full": lambda: FullTable(COUNT, DIM),
    "codebook": lambda: CodebookEmbedding(CODES, DIM, np.roll(CODES, 1)),
    "own rows": lambda: CodebookEmbedding(OWN, DIM),
    "16 bits": lambda: CodebookEmbedding(OWN, DIM, bits=16),
    "mixed": lambda: MixedCodebookEmbedding(CODES, DIM, NEAR, own_share=0.25),
    "weighted": lambda: WeightedCodebookEmbedding(CODES, DIM, np.roll(CODES, 1)),
    "residual": lambda: ResidualCodebookEmbedding(CODES, DIM, residual_dim=2, residual_ids=[5, 1, 8]),
    "product": lambda: ProductCodebookEmbedding(OWN, DIM, subspaces=2, centroids=6, lengths=True),
    "product of 16 bits": lambda: ProductCodebookEmbedding(OWN, DIM, subspaces=2, centroids=6, row_bits=16),
    "quantized": lambda: QuantizedEmbedding(COUNT, DIM, bits=16),
}
FACTS = {
    "bits": lambda bits: CodebookEmbedding(CODES, DIM, bits=bits),
    "share": lambda share: MixedCodebookEmbedding(CODES, DIM, NEAR, own_share=share),
    "packed": lambda bits: QuantizedEmbedding(COUNT, DIM, bits=bits),
    "latent": lambda bits: ProductCodebookEmbedding(OWN, DIM, subspaces=2, centroids=6, row_bits=bits),
}  # bytes of 3 bits are as many as of 4


class Job(nn.Module):
    def __init__(self, *, bag: bool = False, padding_idx: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        options = {"padding_idx": padding_idx}
        self.item = nn.EmbeddingBag(COUNT, DIM, mode="mean", **options) if bag else nn.Embedding(COUNT, DIM, **options)
        self.score = nn.Linear(DIM, 1)
        self.bag = bag

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.score(self.item(ids.view(-1, 2) if self.bag else ids)).squeeze(-1)


def batch(step: int) -> torch.Tensor:
    return torch.randint(COUNT, (8,), generator=torch.Generator().manual_seed(step))


def train(model, optimizer, first, last):
    losses = []
    for step in range(first, last):
        optimizer.zero_grad()
        loss = (model(batch(step)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("name", KINDS)
def test_any_table_takes_the_place_of_any_embedding_in_the_middle_of_a_training(name, padding_idx, bag, tmp_path):
    model = Job(bag=bag, padding_idx=padding_idx)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    train(model, optimizer, 0, 3)
    old, before = model.item.weight, model.item.weight.detach().clone()
    step = optimizer.state[old]["step"].clone()
    report = compress_module(model, {"item": (table := KINDS[name]())}, optimizer)
    assert isinstance(model.item, TableBag) == bag
    assert (model.item.table if bag else model.item) is table
    assert table.padding_idx == padding_idx
    rows = table.read_rows()
    for row in range(len(rows)):
        owners = [
            index for index, own in enumerate(table.row_numbers().tolist()) if own == row and index != padding_idx
        ]
        if owners:
            torch.testing.assert_close(rows[row], before[owners].mean(dim=0), rtol=0, atol=1e-3)
    if name == "residual":
        left = (before - CodebookEmbedding.from_pretrained(before, CODES, padding_idx=padding_idx).weight).detach()[
            [5, 1, 8]
        ]
        rest = (before - table.weight).detach()[[5, 1, 8]]
        assert rest.norm() < left.norm()
    held = [each for group in report.optimizer.param_groups for each in group["params"]]
    assert {id(each) for each in model.parameters()} == {id(each) for each in held}
    assert all(old is not each for each in held)
    assert isinstance(report.optimizer, CombinedOptimizer) == (name in ("quantized", "product of 16 bits"))
    if table.row_parameter is not None:
        assert optimizer.state[table.row_parameter]["step"] == step
        assert optimizer.state[table.row_parameter]["exp_avg"].shape == table.row_parameter.shape
    begin_epoch(model, stored=False)
    losses = train(model, report.optimizer, 3, 30)
    for epoch in range(1, 3):
        begin_epoch(model)
        losses += train(model, report.optimizer, 30 * epoch, 30 * epoch + 30)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    finalize(model)
    if name not in ("full", "weighted"):
        served = load_codebook(export_codebook(model.item.table if bag else model.item, tmp_path / "t.safetensors"))
        torch.testing.assert_close(torch.from_numpy(served.lookup(OWN)), table.weight.detach(), rtol=1e-5, atol=1e-6)

    fresh = Job(bag=bag, padding_idx=padding_idx)
    rebuild_module(fresh, model.state_dict())
    assert torch.equal(fresh(batch(0)), model(batch(0)))
    full = Job(bag=bag, padding_idx=padding_idx)
    if name != "full":
        rebuild_module(model, full.state_dict())
        assert type(model.item) is type(full.item)
        assert torch.equal(full(batch(0)), model(batch(0)))


def test_tables_that_were_made_of_trained_ones_stay_as_they_are():
    model = Job()
    made = ProductCodebookEmbedding.from_pretrained(model.item, OWN, subspaces=2, centroids=6)
    wanted = copy.deepcopy(made.state_dict())
    compress_module(model, {"item": made})
    assert all(torch.equal(value, wanted[key]) for key, value in model.item.state_dict().items())
    assert model.item.fake_quantization
    other = CodebookEmbedding(CODES, DIM)
    rows = other.codebook.detach().clone()
    model = Job()
    compress_module(model, {"item": other}, rows="own")
    assert torch.equal(model.item.codebook, rows)
    dropped = ProductCodebookEmbedding.from_pretrained(torch.randn(COUNT, DIM), OWN, subspaces=2, centroids=6)
    dropped.drop_latent_weight()
    before = dropped.weight.detach().clone()
    model = Job()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 0, 2)
    compress_module(model, {"item": dropped}, optimizer)
    assert torch.equal(model.item.weight, before)
    train(model, optimizer, 0, 2)
    assert not torch.equal(model.item.weight, before)


def test_rows_that_two_tables_share_are_means_of_both():
    model = nn.ModuleDict({"user": nn.Embedding(3, 1), "item": nn.Embedding(2, 1)})
    model["user"].weight.data[:] = torch.tensor([[1.0], [2.0], [30.0]])
    model["item"].weight.data[:] = torch.tensor([[6.0], [10.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    (model["user"].weight.sum() + 10 * model["item"].weight.sum()).backward()
    optimizer.step()
    users, items = CodebookEmbedding([0, 0, 1], 1), CodebookEmbedding([0, 1], 1)
    items.codebook = users.codebook
    compress_module(model, {"user": users, "item": items}, optimizer)
    assert model["user"].codebook is model["item"].codebook
    torch.testing.assert_close(
        users.codebook.detach(), torch.tensor([[9.0 - 1.2], [40.0 - 1.1]]) / torch.tensor([[3.0], [2.0]])
    )
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
    assert optimizer.state[users.codebook]["momentum_buffer"].tolist() == [[12.0], [11.0]]
    fresh = nn.ModuleDict({"user": nn.Embedding(3, 1), "item": nn.Embedding(2, 1)})
    rebuild_module(fresh, model.state_dict())
    assert fresh["user"].codebook is fresh["item"].codebook


def test_what_does_not_fit_is_refused_and_changes_nothing():
    for table, message in (
        (CodebookEmbedding(CODES[:5], DIM), "table must be of 12 ids and 4 dimensions, got 5 and 4"),
        (CodebookEmbedding(CODES, 2), "of 12 ids and 4 dimensions, got 12 and 2"),
        (CodebookEmbedding(CODES, DIM, padding_idx=0), "must have the padding_idx None, got 0"),
        (CodebookEmbedding(CODES, DIM, sparse=True), "has sparse gradients, and Adam takes none"),
    ):
        model = Job()
        before = model.item
        with pytest.raises(InputError, match=message):
            compress_module(model, {"item": table}, torch.optim.Adam(model.parameters()))
        assert model.item is before
    sparse = nn.ModuleDict({"item": nn.Embedding(COUNT, DIM, sparse=True)})
    with pytest.raises(InputError, match="has dense gradients by now, and SparseAdam takes sparse ones alone"):
        compress_module(sparse, {"item": KINDS["product"]()}, torch.optim.SparseAdam(sparse.parameters()))
    with pytest.raises(InputError, match="settings must be of tables of the model, got 'user'"):
        rebuild_module(Job(), Job().state_dict(), settings={"user": {}})


def test_a_combined_optimizer_gets_the_others_of_the_tables():
    model = Job()
    first = CombinedOptimizer(
        [torch.optim.Adam(model.item.parameters()), torch.optim.SGD(model.score.parameters(), 0.1)]
    )
    train(model, first, 0, 2)
    report = compress_module(model, {"item": QuantizedEmbedding(COUNT, DIM)}, first)
    assert [type(each) for each in report.optimizer.optimizers] == [torch.optim.Adam, torch.optim.SGD, RowwiseRMSprop]
    before = model.item.read_rows()
    train(model, report.optimizer, 2, 5)
    assert not torch.equal(model.item.read_rows(), before)


def test_a_state_that_is_not_whole_or_of_another_size_leaves_the_model_as_it_was():
    model = Job()
    compress_module(model, {"item": CODES})
    state = model.state_dict()
    for change, message in (
        ({"item.codebook": None}, "state_dict must have all parts of the table 'item'"),
        ({"item.assignments": None}, "state_dict must have all parts of the table 'item'"),
        (
            {"item.assignments": state["item.assignments"][:5]},
            "table 'item' must have 12 ids of 4 dimensions, .* got 5 of 4",
        ),
        ({"item.assignments": state["item.assignments"] + 99}, "state_dict must have all parts of the table 'item'"),
    ):
        fresh = Job()
        before, weight = fresh.item, fresh.item.weight.detach().clone()
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        with pytest.raises(InputError, match=message):
            rebuild_module(fresh, changed)
        assert fresh.item is before
        assert torch.equal(fresh.item.weight, weight)
    fresh = Job()
    before = fresh.item
    with pytest.raises(RuntimeError, match="stranger"):
        rebuild_module(fresh, {**state, "stranger": torch.zeros(1)})
    assert fresh.item is before
    with pytest.raises(InputError, match="settings must be of its kind"):
        rebuild_module(fresh, state, settings={"item": {"nonsense": 4}})
    with pytest.raises(InputError, match=r"state_dict must be a mapping .* got 'model.pt'"):
        rebuild_module(fresh, "model.pt")


@pytest.mark.parametrize(
    ("name", "said", "other", "entry"),
    [
        ("bits", 4, 8, "stored_bits"),
        ("share", 0.3, 0.5, "stored_own_share"),
        ("packed", 4, 3, "stored_bits"),
        ("latent", 4, 3, "latent_weight.stored_bits"),
    ],
)
def test_a_state_says_what_no_tensor_tells(name, said, other, entry):
    model, fresh, differs = nn.ModuleDict({"item": FACTS[name](said)}).half(), Job(), Job()
    compress_module(differs, {"item": FACTS[name](other)})
    state = model.state_dict()
    with pytest.raises(RuntimeError, match=rf"item\.{entry} must be {other}, as of the module, got {said}"):
        differs.load_state_dict(state, strict=False)
    for rebuilt in (fresh, differs):
        rebuild_module(rebuilt, state, strict=False)
        assert torch.equal(rebuilt.item.weight, model["item"].weight)
    before = {key: value for key, value in state.items() if key != f"item.{entry}"}
    model.load_state_dict(before)
    if name != "bits":
        with pytest.raises(InputError, match="settings of 'item' must give "):
            rebuild_module(Job(), before, strict=False)


def test_a_share_that_is_set_is_the_one_that_a_state_says():
    table, fresh = FACTS["share"](0.5), FACTS["share"](0.7)
    table.own_share = 0.7
    fresh.load_state_dict(table.state_dict())
    assert torch.equal(table.weight, fresh.weight)


def test_a_state_of_another_width_is_refused():
    """Five values of 5 bits take as many bytes as six."""
    state = nn.ModuleDict({"item": QuantizedEmbedding(3, 6, bits=5)}).state_dict()
    packed = {"item.integers": state["item.integers"], "item.scales": state["item.scales"]}
    for dim in (5, 12):
        model = nn.ModuleDict({"item": nn.Embedding(3, dim)})
        with pytest.raises(InputError, match=rf"must have 3 ids of {dim} dimensions, .* got 3 of 6"):
            rebuild_module(model, state)
    with pytest.raises(InputError, match="integers must have 8 bytes a row of 12 values of 5 bits, got 4"):
        rebuild_module(model, packed, settings={"item": {"bits": 5}})
    with pytest.raises(RuntimeError, match=r"stored_embedding_dim must be 5, as of the module, got 6"):
        QuantizedEmbedding(3, 5, bits=5).load_state_dict({name[5:]: value for name, value in state.items()})


def test_a_state_from_before_it_said_of_its_bits_loads_with_those_of_the_model_or_of_settings():
    model, fresh, plain = Job(), Job(), Job()
    compress_module(model, {"item": CodebookEmbedding(CODES, DIM, bits=4)})
    state = {name: value for name, value in model.state_dict().items() if name != "item.stored_bits"}
    compress_module(fresh, {"item": CodebookEmbedding(CODES, DIM, bits=4)})
    rebuild_module(fresh, state)
    rebuild_module(plain, state, settings={"item": {"bits": 4}})
    for rebuilt in (fresh, plain):
        assert torch.equal(rebuilt(batch(0)), model(batch(0)))


def test_a_bag_of_shared_rows_is_made_of_its_state():
    model, fresh = (nn.ModuleDict({"item": nn.EmbeddingBag(COUNT, DIM, mode="max")}) for _ in range(2))
    compress_module(model, {"item": CODES})
    rebuild_module(fresh, model.state_dict())
    ids = batch(0).view(-1, 2)
    assert torch.equal(fresh["item"](ids), model["item"](ids))


@pytest.mark.parametrize(
    "module", [nn.Embedding(COUNT, DIM), TableBag(FullTable(COUNT, DIM))], ids=lambda each: each._get_name()
)
def test_a_module_that_is_no_table_is_refused(module):
    model = nn.ModuleDict({"item": nn.EmbeddingBag(COUNT, DIM, mode="sum")})
    with pytest.raises(
        InputError, match=f"'item': table must be an EmbeddingTable, or assignments, got {module._get_name()}"
    ):
        compress_module(model, {"item": module})
    assert isinstance(model["item"], nn.EmbeddingBag)
