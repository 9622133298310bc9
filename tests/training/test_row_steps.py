"""Steps of the rows that a batch reads end where steps of all rows do, whatever the table, the loss and the threads."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from test_checkpoint import SETTINGS, StopAfter, StoppedError, told

from baco_gpu.errors import InputError
from baco_gpu.models import MatrixFactorization, build_model, full_table
from baco_gpu.models.losses import LOSSES, BatchRows
from baco_gpu.tables import (
    CodebookEmbedding,
    MixedCodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    WeightedCodebookEmbedding,
)
from baco_gpu.tables.full import FullTable
from baco_gpu.training import Checkpoint, Objective, TripleSampler, reset_embeddings, row_steps, train
from baco_gpu.training.row_steps import RowStep, moves_rows_alone
from baco_gpu.training.steps import TrainingStep, training_step
from planted_training import ITEMS, USERS, planted_split, same, weights

pytestmark = pytest.mark.heavy("trains models")

DIM, BATCH = 9, 80
CODES = np.arange(USERS) % 7
SECOND = np.random.default_rng(0).integers(0, 7, (USERS, 3))


def weighted():
    table = WeightedCodebookEmbedding(CODES, DIM, SECOND[:, 0])
    table.shares.copy_(torch.linspace(-1, 1, 2 * USERS).view(-1, 2))
    return table


USER_TABLES = {
    "full": lambda: full_table(USERS, DIM),
    "codebook": lambda: CodebookEmbedding(CODES, DIM),
    "two rows": lambda: CodebookEmbedding(CODES, DIM, SECOND[:, 0]),
    "weighted": weighted,
    "mixed": lambda: MixedCodebookEmbedding(CODES, DIM, SECOND, own_share=0.3),
}
KINDS = [*USER_TABLES, "shared"]


def model_of(kind):
    torch.manual_seed(0)
    items = full_table(ITEMS, DIM)
    if kind == "shared":
        users = CodebookEmbedding(CODES, DIM, SECOND[:, 0])
        items = CodebookEmbedding(np.arange(ITEMS) % 5, DIM, labels=np.arange(7))
        items.codebook = users.codebook
    else:
        users = USER_TABLES[kind]()
    model = build_model("mf", {"users": users, "items": items}, planted_split())
    reset_embeddings(model, 0.1, seed=0)
    return model


def adam(model, rate=0.01):
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True)


def trained(kind, make_step, *, loss="bpr", epochs=3, optimizer_of=adam):
    """The model, Adam's state and the losses after epochs of which each has its own rate."""
    model = model_of(kind)
    optimizer = optimizer_of(model)
    step = make_step(model, optimizer, Objective(loss, 20, 1e-3))
    sampler, losses = TripleSampler(planted_split().train, BATCH), []
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + epoch)
        step.begin()
        for batch in sampler.epoch(epoch):
            step(batch)
        step.end()
        losses.append(float(step.total))
    return model, optimizer, losses


def near(tensors, others):
    """Whether tensors are the same to rounding; where a gradient is nearly zero, its sign makes a step of rounding."""
    pairs = [(one.detach().double(), other.detach().double()) for one, other in zip(tensors, others, strict=True)]
    return all(float((one - other).norm() / other.norm()) < 1e-3 for one, other in pairs)


def moments(model, optimizer, name):
    return [optimizer.state[parameter][name] for parameter in model.parameters()]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_moments_and_losses_are_those_of_steps_of_all_rows(kind, loss):
    wanted, theirs, their_losses = trained(kind, TrainingStep, loss=loss)
    model, own, losses = trained(kind, RowStep, loss=loss)
    assert losses == pytest.approx(their_losses, rel=1e-5)
    assert near(model.parameters(), wanted.parameters())
    assert moments(model, own, "step") == moments(wanted, theirs, "step")
    for name in ("exp_avg", "exp_avg_sq"):
        assert near(moments(model, own, name), moments(wanted, theirs, name))


def test_rows_that_wait_for_long_move_as_they_would_have(monkeypatch):
    """One user alone is read, step after step, and then the others: more steps than are known ahead at first."""
    monkeypatch.setattr(row_steps, "_CHUNK", 4)
    results = []
    for make in (TrainingStep, RowStep):
        model = model_of("full")
        optimizer = adam(model)
        step = make(model, optimizer, Objective("bpr", 20, 1e-3))
        step.begin()
        everyone = torch.stack((torch.arange(ITEMS), torch.arange(ITEMS), torch.arange(ITEMS).roll(1)))
        for number in range(61):
            step(everyone if number % 30 == 0 else everyone[:, :2])
        step.end()
        results.append([*(each.detach() for each in model.parameters()), *moments(model, optimizer, "exp_avg_sq")])
    assert near(*results)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["full", "mixed", "shared"])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, kind, loss):
    monkeypatch.setattr(row_steps, "_PARALLEL", 1)
    monkeypatch.setattr("baco_gpu.models.losses._PARALLEL", 1)
    monkeypatch.setattr("baco_gpu.models.losses._TILE", 64)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            model, optimizer, losses = trained(kind, RowStep, loss=loss)
            results.append((losses, [*weights(model), *moments(model, optimizer, "exp_avg")]))
    finally:
        torch.set_num_threads(threads)
    for losses, tensors in results[1:]:
        assert losses == results[0][0]
        assert same(tensors, results[0][1])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_gradients_in_place_are_those_of_autograd(monkeypatch, loss, scale):
    monkeypatch.setattr("baco_gpu.models.losses._TILE", 64)
    objective, draw = Objective(loss, 7, 0.1), torch.Generator().manual_seed(0)
    count = 150
    users = scale * torch.randn(count, DIM, generator=draw)
    items = scale * torch.randn(2 * count if loss == "bpr" else count + 7, DIM, generator=draw)
    leaves = [each.double().requires_grad_() for each in (users, items)]
    shaped = leaves[1].view(2, count, DIM) if loss == "bpr" else leaves[1]
    wanted = objective(BatchRows(leaves[0], shaped, leaves[0], shaped))
    wanted.backward()
    assert objective.differentiate_(users, items) == pytest.approx(wanted.item(), rel=1e-5)
    for own, leaf in zip((users, items), leaves, strict=True):
        torch.testing.assert_close(own.double(), leaf.grad, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_not_finite_shows_in_the_loss(loss):
    model = model_of("full")
    with torch.no_grad():
        model.user_embedding.weight[3, 2] = torch.nan
    step = RowStep(model, adam(model), Objective(loss, 5))
    step.begin()
    step(torch.tensor([[1, 3, 2], [4, 5, 6], [7, 8, 9]]))
    step.end()
    assert not np.isfinite(float(step.total))


def test_an_error_leaves_rows_that_have_caught_up():
    model, wanted = model_of("full"), model_of("full")
    batches = list(TripleSampler(planted_split().train, BATCH).epoch(0))
    for each, make in ((model, RowStep), (wanted, TrainingStep)):
        step = make(each, adam(each), Objective("bpr"))
        step.begin()
        for batch in batches:
            step(batch)
        with pytest.raises((InputError, IndexError)):
            step(torch.tensor([[USERS], [0], [1]]))
        step.end()
    assert near(model.parameters(), wanted.parameters())


class OtherModel(MatrixFactorization):
    pass


def test_other_tables_models_and_optimizers_take_steps_of_all_rows():
    class OtherTable(FullTable):
        pass

    objective = Objective("bpr")
    for kind in KINDS:
        assert isinstance(training_step(model_of(kind), adam(model_of(kind)), objective, False), TrainingStep)
        model = model_of(kind)
        assert isinstance(training_step(model, adam(model), objective, False), RowStep)
        assert not moves_rows_alone(model, torch.optim.AdamW(model.parameters()))
        for options in ({"amsgrad": True}, {"betas": (0.99, 0.999)}, {"weight_decay": 0.1}, {"maximize": True}):
            assert not moves_rows_alone(model, torch.optim.Adam(model.parameters(), **options))
        assert not moves_rows_alone(OtherModel(*model.tables.values()), adam(model))
    hooked = full_table(USERS, DIM)
    hooked.register_forward_hook(lambda module, given, rows: 2 * rows)
    for users in (
        CodebookEmbedding(CODES, DIM, bits=4),
        CodebookEmbedding(CODES, DIM, padding_idx=0),
        CodebookEmbedding(CODES, DIM, dtype=torch.float64),
        ProductCodebookEmbedding(CODES, DIM, subspaces=3, centroids=5),
        FullTable(USERS, DIM, max_norm=1.0),
        OtherTable(USERS, DIM),
        torch.nn.Embedding(USERS, DIM),
        hooked,
    ):
        model = MatrixFactorization(users, full_table(ITEMS, DIM))
        assert not moves_rows_alone(model, adam(model))
    quantized = MatrixFactorization(QuantizedEmbedding(USERS, DIM), full_table(ITEMS, DIM))
    assert not moves_rows_alone(quantized, adam(quantized))
    lightgcn = build_model("lightgcn", model_of("full").tables, planted_split())
    assert not moves_rows_alone(lightgcn, adam(lightgcn))


@pytest.mark.parametrize("kind", ["full", "two rows", "shared"])
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, kind):
    split, path = planted_split(), tmp_path / "run.safetensors"
    settings = dataclasses.replace(SETTINGS, loss="bpr")
    whole, resumed = model_of(kind), model_of(kind)
    expected = train(whole, split, settings)
    with pytest.raises(StoppedError):
        train(model_of(kind), split, settings, [Checkpoint(path), StopAfter(3)])
    assert told(train(resumed, split, settings, [Checkpoint(path, resume=True)])) == told(expected)
    assert same(weights(resumed), weights(whole))


def test_a_checkpoint_of_steps_of_all_rows_is_gone_on_from(tmp_path, monkeypatch):
    split, path = planted_split(), tmp_path / "run.safetensors"
    whole, resumed = model_of("two rows"), model_of("two rows")
    with monkeypatch.context() as patched:
        patched.setattr("baco_gpu.training.steps.moves_rows_alone", lambda *given: False)
        train(whole, split, SETTINGS)
        with pytest.raises(StoppedError):
            train(model_of("two rows"), split, SETTINGS, [Checkpoint(path), StopAfter(3)])
    train(resumed, split, SETTINGS, [Checkpoint(path, resume=True)])
    assert near(weights(resumed)[:1], weights(whole)[:1])


def test_models_can_be_copied_after_training_and_know_that_they_were_written_to():
    before = [each._version for each in model_of("full").parameters()]
    model, optimizer, _ = trained("full", RowStep)
    assert all(each._version > then for each, then in zip(model.parameters(), before, strict=True))
    twin = copy.deepcopy(model)
    assert same(weights(twin), weights(model))
    assert optimizer.state_dict()["state"].keys() == {0, 1}
