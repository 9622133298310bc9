"""What training, evaluation and experiments count on, of every model that is registered."""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import pickle
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.evaluation import evaluate_ranking
from baco_gpu.models import MODELS, Model, Objective, build_model, find_model, full_table, model_options
from baco_gpu.models.losses import LOSSES
from baco_gpu.tables import CodebookEmbedding
from baco_gpu.training import Callback, Checkpoint, TrainingSettings, train
from pages import ROOT, blocks
from planted_training import ITEMS, USERS, planted_split, same, weights

DIM = 8
QUICK = TrainingSettings(epochs=3, batch_size=64, learning_rate=1e-2, seed=3)
SIZES = {"users": USERS, "items": ITEMS}

models = pytest.mark.parametrize("name", MODELS)
trained = pytest.mark.heavy("trains models")


def timed_split():
    parts = planted_split().parts
    return SplitInteractions(*(replace(part, timestamps=np.arange(len(part)) % 7) for part in parts))


def make(name, *, compressed=False):
    tables = {side: full_table(size, DIM) for side, size in SIZES.items()}
    if compressed:
        tables = {side: CodebookEmbedding(np.arange(size) % 12, DIM) for side, size in SIZES.items()}
    model = build_model(name, tables, timed_split())
    model.initialize(0.1, torch.Generator().manual_seed(0))
    return model


def batches(model, epoch=1, **settings):
    settings = {"batch_size": 64, "seed": 5, **settings}
    return list(model.sampler(timed_split(), **settings).epoch(epoch))


@models
def test_a_model_says_what_it_is_called_and_made_of(name):
    model = make(name)
    assert (type(model), model.name) == (find_model(name), name)
    assert tuple(model.tables) == model.table_names
    assert {side: table.num_embeddings for side, table in model.tables.items()} == {
        side: SIZES[side] for side in model.table_names
    }
    assert (model.num_users, model.num_items) == (USERS, ITEMS)
    assert model.num_rows == sum(SIZES[side] for side in model.table_names)
    assert make(name, compressed=True).num_rows == 12 * len(model.table_names)
    split = timed_split()
    assert all(model.default_weight_decay(loss, split.train) >= 0 for loss in LOSSES)


@models
def test_vectors_are_of_users_and_items(name):
    model = make(name)
    users, items = torch.tensor([3, 0, 3]), model.item_vectors()
    vectors = model.user_vectors(users)
    assert (vectors.shape[0], items.shape[0], vectors.shape[1]) == (3, ITEMS, items.shape[1])
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    read, table = model.ranked()
    torch.testing.assert_close(read(users), vectors)
    torch.testing.assert_close(table, items)


@models
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_loss_is_a_finite_number_and_trains_all_that_is_trained(name, loss, compressed):
    model = make(name, compressed=compressed)
    batch = batches(model)[0]
    value = model.loss(batch, Objective(loss, 16, 1e-3))
    assert (value.shape, math.isfinite(value.item())) == ((), True)
    value.backward()
    gradients = {label: parameter.grad for label, parameter in model.named_parameters()}
    assert not [label for label, grad in gradients.items() if grad is None or not grad.isfinite().all()]
    assert all(table_grad.any() for table_grad in gradients.values())
    heavier = model.loss(batch, Objective(loss, 16, 1.0))
    assert heavier > value, "weight decay counts"
    assert torch.equal(model.loss(batch, Objective(loss, 16, 1e-3)), value), "a batch holds all that is random"


@models
def test_a_sampler_draws_the_same_for_the_same_seed_and_epoch(name):
    model = make(name)
    first, again, other, later = batches(model), batches(model), batches(model, seed=6), batches(model, epoch=2)
    assert same(first, again)
    assert not same(first, other)
    assert not same(first, later)
    assert all(batch.dtype == torch.int64 for batch in first)
    assert len({batch.shape for batch in first[:-1]}) <= 1
    sampler = model.sampler(timed_split(), batch_size=64, seed=5)
    assert sum(batch.shape[1] for batch in first) == sampler.num_samples


@models
def test_options_have_defaults_that_hold_and_a_text(name):
    options = find_model(name).Options()
    assert model_options(name, asdict(options)) == options
    assert all(field.metadata["help"].endswith(".") for field in fields(options))
    with pytest.raises(InputError, match=f"model '{name}' has no option 'colour', it has"):
        build_model(name, {}, timed_split(), colour=1)


@models
def test_copies_score_alike_and_hold_no_data(name):
    model = make(name, compressed=True)
    other = make(name, compressed=True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(model.state_dict())
    everyone = torch.arange(USERS)
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.user_vectors(everyone), model.user_vectors(everyone))
        assert torch.equal(twin.item_vectors(), model.item_vectors())
    parameters = sum(value.numel() for value in model.parameters())
    codes = sum(size for side, size in SIZES.items() if side in model.table_names) + 12 * len(model.table_names)
    assert sum(value.numel() for value in model.state_dict().values()) <= parameters + 2 * codes


@models
def test_evaluation_is_that_of_a_plain_loop(name):
    model, split = make(name), timed_split()
    with torch.no_grad():
        found = evaluate_ranking(*model.ranked(), split.train, split.test, (5,))
        scores = (model.user_vectors(torch.arange(USERS)) @ model.item_vectors().T).numpy()
    recalls = []
    for user in np.unique(split.test.users):
        seen = set(split.train.items[split.train.users == user])
        best = sorted(set(range(ITEMS)) - seen, key=lambda item: (-scores[user, item], item))[:5]
        wanted = split.test.items[split.test.users == user]
        recalls.append(len(set(best) & set(wanted)) / len(wanted))
    assert found["recall@5"] == pytest.approx(np.mean(recalls))


@trained
@models
@pytest.mark.parametrize("compressed", [False, True])
def test_same_seed_same_bits(name, compressed):
    split, runs = timed_split(), []
    for _ in range(2):
        torch.rand(3)  # the global generator has no say
        model = make(name, compressed=compressed)
        runs.append((train(model, split, QUICK).test, weights(model)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])
    train(model, split, replace(QUICK, seed=4))
    assert not same(weights(model), runs[0][1])


class Interrupt(Callback):
    def on_epoch(self, run, record):
        if record.epoch == 2:
            raise KeyboardInterrupt


@trained
@models
def test_a_run_that_is_resumed_ends_as_one_that_was_not(name, tmp_path):
    split, whole, resumed = timed_split(), make(name), make(name)
    expected = train(whole, split, QUICK)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(make(name), split, QUICK, [Checkpoint(path), Interrupt()])
    result = train(resumed, split, QUICK, [Checkpoint(path, resume=True)])
    assert result.test == expected.test
    assert same(weights(resumed), weights(whole))
    if resumed.needs_timestamps:
        backwards = replace(split.train, timestamps=split.train.timestamps[::-1].copy())
        with pytest.raises(InputError, match="its data differs"):
            train(make(name), replace(split, train=backwards), QUICK, [Checkpoint(path, resume=True)])


def test_two_models_of_one_name_are_refused():
    with pytest.raises(InputError, match="model name must be new, got 'mf', which MatrixFactorization has"):

        class Other(Model, name="mf"):
            pass

    assert find_model("mf").__name__ == "MatrixFactorization"


@trained
def test_the_model_of_contributing_is_one(tmp_path, monkeypatch):
    """As a file of its own, as the page says, and under every test of this one."""
    page = blocks((ROOT / "CONTRIBUTING.md").read_text("utf-8"), "python")
    (block,) = [block for block in page if "(Model, name=" in block.code]
    (tmp_path / "item_mean.py").write_text(block.code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(MODELS)
    try:
        importlib.import_module("item_mean")
        (name,) = set(MODELS) - before
        for check in (
            test_a_model_says_what_it_is_called_and_made_of,
            test_vectors_are_of_users_and_items,
            test_a_sampler_draws_the_same_for_the_same_seed_and_epoch,
            test_options_have_defaults_that_hold_and_a_text,
            test_copies_score_alike_and_hold_no_data,
            test_evaluation_is_that_of_a_plain_loop,
        ):
            check(name)
        for loss, compressed in itertools.product(LOSSES, (False, True)):
            test_the_loss_is_a_finite_number_and_trains_all_that_is_trained(name, loss, compressed)
        test_same_seed_same_bits(name, compressed=True)
        test_a_run_that_is_resumed_ends_as_one_that_was_not(name, tmp_path)
        split = timed_split()
        assert train(make(name), split, replace(QUICK, epochs=10)).test["recall@10"] > 0.8, "it finds the groups"
    finally:
        for name in set(MODELS) - before:
            del MODELS[name]
        sys.modules.pop("item_mean", None)


def test_the_base_of_models_still_has_its_former_name():
    with pytest.warns(FutureWarning, match="Recommender is called Model now"):
        from baco_gpu.models import Recommender
    assert Recommender is Model
