"""Training: it learns, repeats bit by bit, stops when it should, and leaves the best weights whatever happens."""

import copy
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import BacoError, InputError
from baco_gpu.evaluation import evaluate_ranking
from baco_gpu.models import build_model, full_table
from baco_gpu.tables import CodebookEmbedding, ProductCodebookEmbedding, QuantizedEmbedding
from baco_gpu.training import Callback, DivergenceError, ReportProgress, TrainingSettings, reset_embeddings, train
from baco_gpu.training.training_run import TrainingRun
from planted_training import ITEMS, USERS, make, planted_split, same, weights
from tiers import full

pytestmark = pytest.mark.heavy("trains models")

QUICK = TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2, seed=3)


TABLES = [{}, {"compressed": True}, {"low_precision": 16}, {"low_precision": 8}, {"low_precision": 5}]
EVERY = list(itertools.product(["mf", "lightgcn"], TABLES, ["softmax", "bpr"]))
# Each model with each kind of table once, and each loss with either.
ONCE = [case for number, case in enumerate(EVERY) if number % 4 in (0, 3)]


@pytest.mark.parametrize(("method", "tables", "loss"), full(EVERY, ONCE))
def test_training_finds_the_planted_groups(method, tables, loss):
    split = planted_split()
    model = make(method, split, **tables)
    settings = TrainingSettings(epochs=20, batch_size=32, learning_rate=2e-2, loss=loss, k=5, ks=(5,))
    result = train(model, split, settings)
    # Five of 35 unseen items by chance; of the five unseen ones of the own group for who knows the groups.
    assert result.test["recall@5"] > 0.6
    losses = [record.loss for record in result.history]
    others = 1 if loss == "bpr" else 32
    assert losses[-1] < losses[0] < np.log(1 + others) + 0.1
    users, items = model.representations()
    assert evaluate_ranking(users, items, split.train, split.test, (5,)) == result.test
    assert not model.training


@pytest.mark.parametrize("tables", [{}, {"compressed": True}, {"low_precision": 6}, {"product": True, "row_bits": 8}])
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_same_seed_same_bits(method, tables):
    split = planted_split()
    runs = []
    for _ in range(2):
        torch.rand(3)  # the global generator has no say
        model = make(method, split, **tables)
        runs.append((train(model, split, QUICK), weights(model)))
    assert same(runs[0][1], runs[1][1])
    assert [record.loss for record in runs[0][0].history] == [record.loss for record in runs[1][0].history]
    assert runs[0][0].test == runs[1][0].test
    other = make(method, split, **tables)
    train(other, split, TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2, seed=4))
    assert not same(weights(other), runs[0][1])


def test_a_table_of_few_bits_is_trained_beside_one_of_floats():
    split = planted_split()
    model = build_model("mf", {"users": QuantizedEmbedding(USERS, 8), "items": full_table(ITEMS, 8)}, split)
    reset_embeddings(model, QUICK.embedding_std, QUICK.seed)
    before = weights(model)
    history = train(model, split, QUICK).history
    assert history[-1].loss < history[0].loss
    arrays = [(old, new) for old, new in zip(before, weights(model), strict=True) if old.ndim == 2]  # others are facts
    assert len(arrays) == 3
    assert not any(torch.equal(old, new) for old, new in arrays)


def test_result_tells_the_run():
    split = planted_split()
    calls = []
    settings = TrainingSettings(epochs=5, batch_size=64, evaluate_every=2, k=3, ks=(2, 50))
    result = train(make(split=split), split, settings, [ReportProgress(lambda *call: calls.append(call))])
    assert [record.epoch for record in result.history] == [1, 2, 3, 4, 5]
    assert [record.validation is not None for record in result.history] == [False, True, False, True, True]
    best = max((record for record in result.history if record.validation), key=lambda r: r.validation["recall@3"])
    assert result.best_epoch == best.epoch
    assert result.validation["recall@3"] == best.validation["recall@3"]
    assert {name.split("@")[1] for name in result.test} == {"2", "3", "50"}
    assert result.samples == 5 * len(split.train)
    assert result.training_seconds == pytest.approx(sum(record.seconds for record in result.history))
    assert result.evaluation_seconds > 0
    assert [(phase, done, total) for phase, done, total, _ in calls] == [("training", n, 5) for n in range(1, 6)]
    assert "validation recall@3" in calls[1][3]
    assert "validation" not in calls[0][3]


def scripted_evaluation(monkeypatch, scores):
    """Let validation recall take the given values in turn, and then the last one."""
    remaining = list(scores)

    def evaluate(users, items, exclude, held_out, ks, **_):
        value = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return {f"recall@{k}": value for k in ks}

    monkeypatch.setattr("baco_gpu.training.training_run.evaluate_ranking", evaluate)


def test_early_stopping_restores_the_best_epoch(monkeypatch):
    scripted_evaluation(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.1, 0.9])
    split = planted_split()
    model, seen = make(split=split), []
    result = train(
        model,
        split,
        TrainingSettings(epochs=20, batch_size=64, patience=3, lr_drops=0),
        [ReportProgress(lambda *_: seen.append(weights(model)))],
    )
    # Epoch 4 equals epoch 2 and is no improvement; three evaluations after epoch 2 it is over.
    assert len(result.history) == 5
    assert result.best_epoch == 2
    assert same(weights(model), seen[1])
    assert not same(weights(model), seen[-1])


class Rates(Callback):
    """Takes down the learning rate and the weights of every epoch."""

    def __init__(self):
        self.rates, self.weights = [], []

    def on_epoch(self, run, record):
        (rate,) = {group["lr"] for group in run.optimizer.param_groups}
        self.rates.append(rate)
        self.weights.append(weights(run.model))


def test_the_learning_rate_drops_when_patience_runs_out(monkeypatch):
    # Twice nothing better after epoch 2; epoch 5 is at an eighth, and better; then nothing is, and that was the drop.
    scripted_evaluation(monkeypatch, [0.1, 0.3, 0.2, 0.2, 0.4, 0.4, 0.4, 0.9])
    split, seen = planted_split(), Rates()
    settings = TrainingSettings(epochs=20, batch_size=64, learning_rate=0.08, patience=2, lr_drops=1)
    model = make(split=split)
    result = train(model, split, settings, [seen])
    assert (len(result.history), result.best_epoch) == (7, 5)
    assert seen.rates == [0.08] * 4 + [0.01] * 3
    assert same(weights(model), seen.weights[4])
    # Epoch 5 goes on from epoch 2, with a new Adam: its first steps are of the learning rate's length.
    pairs = zip(seen.weights[4], seen.weights[1], strict=True)
    moved = max(float((after - before).abs().max()) for after, before in pairs)
    assert 0.0099 <= moved <= 0.01 * len(split.train) / 64 + 0.01


class SeenRows(Callback):
    """Takes down whether the lookups of a training step and of an evaluation see rows as they are stored."""

    def __init__(self, monkeypatch):
        self.in_steps, self.in_evaluations = [], []
        evaluate = TrainingRun.evaluate

        def evaluate_and_look(run, *arguments):
            scores = evaluate(run, *arguments)
            self.in_evaluations.append(run.model.user_embedding.fake_quantization)
            return scores

        monkeypatch.setattr(TrainingRun, "evaluate", evaluate_and_look)

    def on_start(self, run):
        rows = run.model.rows

        def rows_and_look(*arguments):
            self.in_steps.append(run.model.user_embedding.fake_quantization)
            return rows(*arguments)

        run.model.rows = rows_and_look


@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_rows_of_few_bits_are_trained_as_floats_until_nothing_comes_of_that(monkeypatch, method):
    # Epoch 5 is the best of floats, and stored it has 0.25; epoch 8 is better than that, and 11 at a lower rate.
    scripted_evaluation(monkeypatch, [0.1, 0.3, 0.2, 0.2, 0.4, 0.1, 0.1, 0.25, 0.35, 0.2, 0.2, 0.36, 0.2, 0.2])
    split, seen, rates = planted_split(), SeenRows(monkeypatch), Rates()
    settings = TrainingSettings(epochs=20, batch_size=1000, learning_rate=0.64, patience=2)
    table = CodebookEmbedding(np.arange(USERS), 8, bits=2)
    model = build_model(method, {"users": table, "items": full_table(ITEMS, 8)}, split)
    result = train(model, split, settings, [seen, rates])
    assert rates.rates == pytest.approx([0.64] * 4 + [0.08] * 6 + [0.01] * 3)
    assert seen.in_steps == [False] * 7 + [True] * 6
    assert seen.in_evaluations == [False] * 7 + [True] * (1 + 3 + 3 + 2)
    assert (len(result.history), result.best_epoch) == (13, 11)
    assert same(weights(model), rates.weights[10])
    assert table.fake_quantization
    assert len(table.weight[0].detach().abs().unique()) <= 2


def test_rounded_rows_that_training_does_not_better_are_those_of_the_best_epoch(monkeypatch):
    scripted_evaluation(monkeypatch, [0.3, 0.2, 0.25, 0.2, 0.2])
    split, rates = planted_split(), Rates()
    table = CodebookEmbedding(np.arange(USERS), 8, bits=4)
    model = build_model("mf", {"users": table, "items": full_table(ITEMS, 8)}, split)
    settings = TrainingSettings(epochs=20, batch_size=64, patience=1, lr_drops=0)
    result = train(model, split, settings, [rates])
    assert (len(result.history), result.best_epoch) == (4, 1)
    assert same(weights(model), rates.weights[0])


def test_what_comes_of_a_run_that_ends_before_is_rounded():
    split = planted_split()
    table = CodebookEmbedding(np.arange(USERS), 8, bits=2)
    model = build_model("mf", {"users": table, "items": full_table(ITEMS, 8)}, split)
    result = train(model, split, TrainingSettings(epochs=3, batch_size=64))
    users, items = model.representations()
    assert len(users[0].abs().unique()) <= 2
    assert evaluate_ranking(users, items, split.train, split.test, (20,))["recall@20"] == result.test["recall@20"]


class SeenCodes(SeenRows):
    """Takes down the codes of every epoch, too."""

    def __init__(self, monkeypatch):
        super().__init__(monkeypatch)
        self.codes = []

    def on_epoch(self, run, record):
        self.codes.append(run.model.user_embedding.codes.clone())


@pytest.mark.parametrize("row_bits", [None, 16, 8])
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_product_codes_come_when_floats_learn_no_more_and_follow_these(monkeypatch, method, row_bits):
    scripted_evaluation(monkeypatch, [0.3, 0.2, 0.4, 0.1, 0.25, 0.35, 0.36, 0.2, 0.2])
    split, seen, rates = planted_split(), SeenCodes(monkeypatch), Rates()
    settings = TrainingSettings(epochs=20, batch_size=64, learning_rate=0.64, patience=1)
    model = make(method, split, product=True, row_bits=row_bits)
    result = train(model, split, settings, [seen, rates])
    assert rates.rates == pytest.approx([0.64] * 2 + [0.08] * 5 + [0.01])
    assert not seen.in_steps[0]
    assert seen.in_steps[-1]
    assert seen.in_evaluations == [False] * 4 + [True] * (1 + 3 + 1 + 2)
    assert not any(codes.any() for codes in seen.codes[:4])
    assert len({tuple(codes.flatten().tolist()) for codes in seen.codes[4:]}) > 1
    assert (len(result.history), result.best_epoch) == (8, 6)
    table = model.user_embedding
    assert torch.equal(table.codes, seen.codes[5])
    assert same(weights(model), rates.weights[5])
    assert not same(rates.weights[6], rates.weights[5])  # both floats and centroids have moved on
    for module in (model.user_embedding, model.item_embedding):
        for piece in (slice(3), slice(6, 8)):
            assert len(module.weight[:, piece].detach().abs().unique(dim=0)) <= 5


def test_the_scores_of_floats_are_near_to_those_of_their_codes(monkeypatch):
    scripted_evaluation(monkeypatch, [0.3, 0.2, 0.2, 0.2, 0.2])
    split = planted_split()
    settings = TrainingSettings(epochs=9, batch_size=64, learning_rate=0.02, patience=1, lr_drops=0)
    one_a_piece = [
        ProductCodebookEmbedding(np.arange(size), 8, subspaces=4, centroids=size * 4, code_bits=16)
        for size in (USERS, ITEMS)
    ]
    plain, coded = (
        make("lightgcn", split),
        build_model("lightgcn", dict(zip(("users", "items"), one_a_piece, strict=True)), split),
    )
    train(plain, split, TrainingSettings(**{**vars(settings), "epochs": 1}))
    train(coded, split, settings)
    assert coded.user_embedding.encoded
    floats, codes = (users @ items.T for users, items in (plain.representations(), coded.representations()))
    torch.testing.assert_close(codes, floats, rtol=1e-4, atol=1e-5)


def test_product_codes_of_a_run_that_ends_before_are_those_of_its_floats():
    split = planted_split()
    model = make("mf", split, product=True)
    result = train(model, split, TrainingSettings(epochs=3, batch_size=64))
    users, items = model.representations()
    assert len(users[:, :3].abs().unique(dim=0)) <= 5
    assert evaluate_ranking(users, items, split.train, split.test, (20,))["recall@20"] == result.test["recall@20"]


def test_trained_codes_are_trained_again_from_their_floats_or_without_them():
    split = planted_split()
    model, again = (make("lightgcn", split, product=True) for _ in range(2))
    settings = TrainingSettings(epochs=2, batch_size=64)
    first = train(model, split, settings)
    assert train(model, split, settings).test == first.test == train(again, split, settings).test
    for table in (model.user_embedding, model.item_embedding):
        table.drop_latent_weight()
    with pytest.raises(InputError, match=r"embedding_std must be None for tables of product codes .*, got 0\.1"):
        train(model, split, settings)
    before = model.user_embedding.codes.clone(), model.user_embedding.centroids.detach().clone()
    result = train(model, split, TrainingSettings(epochs=2, batch_size=64, embedding_std=None))
    assert len(result.history) == 2
    assert torch.equal(model.user_embedding.codes, before[0])
    assert not torch.equal(model.user_embedding.centroids, before[1])


def test_an_interrupt_leaves_floats_that_have_no_codes_yet(monkeypatch):
    split = planted_split()
    model = make("mf", split, product=True)

    class Stop(Callback):
        def on_epoch(self, run, record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, split, QUICK, [Stop()])
    assert not model.user_embedding.fake_quantization
    assert torch.equal(model.user_embedding.weight, model.user_embedding.codebook)


def test_negative_drops_are_refused():
    with pytest.raises(InputError, match="lr_drops must be an integer at least 0"):
        TrainingSettings(lr_drops=-1)


def test_without_patience_every_epoch_runs(monkeypatch):
    scripted_evaluation(monkeypatch, [0.5, 0.4])
    split = planted_split()
    result = train(make(split=split), split, TrainingSettings(epochs=15, batch_size=256, patience=None))
    assert len(result.history) == 15
    assert result.best_epoch == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupt_leaves_the_best_weights_and_passes_on(monkeypatch, error):
    scripted_evaluation(monkeypatch, [0.1, 0.5, 0.2])
    split = planted_split()
    model, seen = make(split=split), []

    def interrupt(phase, done, total, note):
        seen.append(weights(model))
        if done == 4:
            raise error

    with pytest.raises(error):
        train(model, split, TrainingSettings(epochs=20, batch_size=64), [ReportProgress(interrupt)])
    assert same(weights(model), seen[1])
    assert not model.training


def test_divergence_is_an_error_that_says_so(monkeypatch):
    split = planted_split()
    model = make(split=split)
    finite = model.rows
    calls = []

    def poisoned(*batch):
        calls.append(1)
        rows = finite(*batch)
        return rows._replace(users=rows.users * (float("nan") if len(calls) > 5 else 1.0))

    monkeypatch.setattr(model, "rows", poisoned)
    with pytest.raises(
        DivergenceError, match=r"loss of epoch 2 is nan; a learning rate below 0\.005 may help"
    ) as caught:
        train(model, split, TrainingSettings(epochs=3, batch_size=64))
    assert isinstance(caught.value, BacoError)
    # Epoch 1 was evaluated: its weights are finite, and they are what is left.
    assert all(bool(torch.isfinite(table).all()) for table in weights(model))


def test_weights_that_are_there_can_be_the_start():
    split = planted_split()
    model = make(split=split)
    train(model, split, QUICK)
    before = evaluate_ranking(*model.representations(), split.train, split.validation, (20,))
    tiny = TrainingSettings(epochs=1, batch_size=64, learning_rate=1e-12, embedding_std=None)
    result = train(model, split, tiny)
    assert result.validation["recall@20"] == pytest.approx(before["recall@20"], abs=0.02)


def test_initial_embeddings_have_the_deviation_asked_for():
    model = nn.ModuleList(
        [
            nn.Embedding(400, 64, padding_idx=5),
            CodebookEmbedding(np.arange(400) % 300, 64),
            nn.Linear(2, 2),
            QuantizedEmbedding(400, 64),
        ]
    )
    untouched = model[2].weight.clone()
    reset_embeddings(model, 0.1, seed=1)
    for table in (model[0].weight, model[1].codebook, model[3].weight):
        assert abs(float(table.detach().std()) - 0.1) < 0.002
    assert not model[0].weight[5].any()
    assert torch.equal(model[2].weight, untouched)


def test_empty_parts():
    split = planted_split()
    empty = split.train.take(np.arange(0))
    model = make(split=split)
    without_validation = SplitInteractions(split.train, empty, split.test)
    with pytest.raises(InputError, match="validation part is empty"):
        train(model, without_validation, QUICK)
    result = train(model, without_validation, TrainingSettings(epochs=3, batch_size=64, patience=None))
    assert (result.best_epoch, result.validation) == (3, {})
    assert result.test
    result = train(model, SplitInteractions(split.train, split.validation, empty), QUICK)
    assert result.test == {}
    with pytest.raises(InputError, match="no training interaction"):
        train(model, SplitInteractions(empty, split.validation, empty), QUICK)


def test_what_does_not_fit_is_refused():
    split = planted_split()
    small = SplitInteractions(*(Interactions(np.array([0]), np.array([0]), 3, 4) for _ in range(3)))
    with pytest.raises(InputError, match="the model has 60 users and 40 items, the split 3 and 4"):
        train(make(split=split), small, QUICK)
    tables = {"users": CodebookEmbedding(range(USERS), 8, sparse=True), "items": full_table(ITEMS, 8)}
    sparse = build_model("mf", tables, split)
    with pytest.raises(InputError, match="dense gradients"):
        train(sparse, split, QUICK)
    recorded = copy.copy(QUICK)
    object.__setattr__(recorded, "cuda_graph", True)  # which cannot be asked for where there is no GPU
    with pytest.raises(InputError, match="cuda_graph must be False for tables of QuantizedEmbedding"):
        train(make(split=split, low_precision=8), split, recorded)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("evaluate_every", 0),
        ("patience", 0),
        ("k", 0),
        ("ks", (0,)),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1e-4),
        ("embedding_std", 0.0),
        ("device", "abacus"),
        ("cuda_graph", 1),
        ("cuda_graph", True),
    ],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must"):
        TrainingSettings(**{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_gpu_is_an_error():
    with pytest.raises(InputError, match="torch sees no CUDA device"):
        TrainingSettings(device="cuda")


def test_a_gpu_that_is_not_there_is_an_error_before_any_work(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert TrainingSettings(device="cuda:1").device == "cuda:1"
    with pytest.raises(InputError, match="device must be from cuda:0 to cuda:1, which torch sees, got 'cuda:2'"):
        TrainingSettings(device="cuda:2")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_gpu_runs_repeat_bit_by_bit(method):
    split = planted_split()
    runs = []
    for cuda_graph in (False, False, True):
        settings = TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2, device="cuda", cuda_graph=cuda_graph)
        model = make(method, split, compressed=True)
        train(model, split, settings)
        runs.append(weights(model))
    assert same(runs[0], runs[1])
    # Adam computes its corrections on the device when it is captured, and rounds them differently.
    for eager, captured in zip(runs[0], runs[2], strict=True):
        torch.testing.assert_close(eager, captured, rtol=1e-3, atol=1e-4)


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("BACO_DATA"), reason="BACO_DATA names no folder of interaction sets")
def test_one_epoch_on_beauty_ranks_far_above_chance():
    with np.load(Path(os.environ["BACO_DATA"]) / "beauty.npz") as stored:
        sizes = int(stored["num_users"]), int(stored["num_items"])
        parts = [Interactions(*np.ascontiguousarray(stored[name]), *sizes) for name in ("train", "val", "test")]
    split = SplitInteractions(*parts)
    model = build_model("lightgcn", {"users": full_table(sizes[0], 64), "items": full_table(sizes[1], 64)}, split)
    result = train(model, split, TrainingSettings(epochs=1))
    # Chance is 20 of 12,101 items, 0.0017; several implementations reach 0.05 to 0.06 after one epoch.
    assert result.test["recall_capped@20"] > 0.045
