"""Several ranks train one model: equal weights on all of them, and those of one process but for the order of sums."""

import dataclasses
import errno
from traceback import StackSummary

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint
from torch.distributed.checkpoint.api import CheckpointException

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.evaluation import evaluate_ranking
from baco_gpu.models import build_model, full_table
from baco_gpu.tables import ShardedTable
from baco_gpu.training import Checkpoint, ShardedCheckpoint, TrainingSettings, train
from planted_training import ITEMS, USERS, make, planted_split, same, weights
from thread_ranks import on_ranks

pytestmark = pytest.mark.heavy("trains models")

# The last batch of an epoch has 300 % 66 = 36 triples; a patience of one goes through all stages of training.
SETTINGS = TrainingSettings(epochs=9, batch_size=66, negatives=20, learning_rate=1e-2, patience=1)
TABLES = {
    "full": {},
    "codebook": {"compressed": True},
    "rounded codebook": {"compressed": True, "bits": 8},
    "product": {"product": True},
    "product over bytes": {"product": True, "row_bits": 8},
    "bytes": {"low_precision": 8},
    "16 bits": {"low_precision": 16},
}


def in_order():
    """Interactions at a time each, for models of sequences."""
    parts = planted_split()
    moments = np.random.default_rng(1).permutation(len(parts.train))
    timed = Interactions(parts.train.users, parts.train.items, USERS, ITEMS, timestamps=moments)
    return SplitInteractions(timed, parts.validation, parts.test)


def make_sasrec(split):
    torch.manual_seed(0)
    return build_model("sasrec", {"items": full_table(ITEMS, 8)}, split, length=6, dropout=0.2)


def trained(make_model, split, settings, ranks=None, callbacks=()):
    model = make_model(split=split)
    result = train(model, split, settings, callbacks, ranks=ranks)
    return weights(model), result.test, [(record.loss, record.validation) for record in result.history]


def check_alike(make_model, split, settings, size, closeness=1e-5):
    alone = trained(make_model, split, settings)
    every = on_ranks(size, lambda ranks: trained(make_model, split, settings, ranks))
    for other in every[1:]:
        assert same(other[0], every[0][0])
        assert other[1:] == every[0][1:]
    for ours, one in zip(every[0][0], alone[0], strict=True):
        assert (ours.double() - one.double()).abs().max() <= closeness * max(one.abs().max(), 1), ours.shape
    assert [loss for loss, _ in every[0][2]] == pytest.approx([loss for loss, _ in alone[2]], rel=1e-5)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_floats_are_those_of_one_process(model, loss, size):
    settings = dataclasses.replace(SETTINGS, loss=loss, epochs=2, patience=None, weight_decay=0.05)
    check_alike(lambda split: make(model, split, compressed=True), planted_split(), settings, size)


@pytest.mark.parametrize("size", [2, 4])
def test_sequences_are_those_of_one_process(size):
    settings = dataclasses.replace(SETTINGS, epochs=2, patience=None, batch_size=60)
    check_alike(make_sasrec, in_order(), settings, size, closeness=1e-4)


@pytest.mark.parametrize("tables", TABLES.values(), ids=TABLES)
def test_ranks_keep_equal_weights_to_the_end(tables):
    settings = dataclasses.replace(SETTINGS, epochs=30, learning_rate=3e-2)

    def run(ranks):
        return trained(lambda split: make("mf", split, **tables), planted_split(), settings, ranks)

    every = on_ranks(3, run)
    assert same(every[1][0], every[0][0])
    assert same(every[2][0], every[0][0])
    assert every[0][1:] == every[1][1:] == every[2][1:]
    assert every[0][1]["recall@20"] > 0.8


@pytest.mark.parametrize("bits", [8, 16])
def test_gradients_that_stay_with_a_table_are_summed(bits):
    """After one step: later ones would make of tiny differences, rounded at random, whole ones."""
    settings = dataclasses.replace(SETTINGS, epochs=1, patience=None, batch_size=300)

    def rows(ranks=None):
        model = make("mf", split := planted_split(), low_precision=bits)
        train(model, split, settings, ranks=ranks)
        return [table.read_rows() for table in model.tables.values()]

    every, alone = on_ranks(3, rows), rows()
    assert same(every[1], every[0])
    for ours, one in zip(every[0], alone, strict=True):
        units = (one.amax(1) - one.amin(1)) / (2**bits - 1)
        assert ((ours - one).abs().amax(1) <= 1.5 * units).all()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_tables_that_are_divided_are_those_of_one_process(model, size):
    """Three ranks have 14, 14 and 12 of 40 items, and no equal numbers of batches to rank."""
    settings = dataclasses.replace(SETTINGS, epochs=4, weight_decay=0.05)

    def run(ranks):
        tables = {"users": ShardedTable(USERS, 8, ranks), "items": ShardedTable(ITEMS, 8, ranks)}
        model_over = build_model(model, tables, split := planted_split())
        result = train(model_over, split, settings, ranks=ranks)
        return [table.read_rows() for table in tables.values()], result.test, result.history

    every, alone = on_ranks(size, run), trained(lambda split: make(model, split), planted_split(), settings)
    for rows, test, history in every:
        assert same(rows, every[0][0])
        assert test == every[0][1]
        for ours, one in zip(rows, alone[0], strict=True):
            assert (ours - one).abs().max() <= 1e-5 * max(one.abs().max(), 1)
        assert [record.loss for record in history] == pytest.approx([loss for loss, _ in alone[2]], rel=1e-5)


def test_a_file_of_one_rank_is_refused_for_divided_tables(tmp_path):
    model = build_model("mf", {"users": ShardedTable(USERS, 8), "items": full_table(ITEMS, 8)}, planted_split())
    with pytest.raises(InputError, match="sharded tables need a ShardedCheckpoint"):
        train(model, planted_split(), SETTINGS, [Checkpoint(tmp_path / "run.safetensors")])


def test_what_some_ranks_cannot_write_is_told_in_a_line_and_the_last_whole_one_is_left(tmp_path, monkeypatch):
    full_disk = OSError(errno.ENOSPC, "No space left on device")
    failures = {0: (RuntimeError("unexpected\npos 704 vs 598"), StackSummary()), 1: (full_disk, StackSummary())}
    save = torch.distributed.checkpoint.save

    def run(resume, epochs):
        split, tables = planted_split(), {"users": ShardedTable(USERS, 8), "items": ShardedTable(ITEMS, 8)}
        settings = dataclasses.replace(SETTINGS, epochs=epochs, patience=None)
        return train(build_model("mf", tables, split), split, settings, [ShardedCheckpoint(tmp_path, resume=resume)])

    def save_a_part(*arguments, **options):
        save(*arguments, **options)
        raise CheckpointException("save", failures)

    run(False, 2)
    with monkeypatch.context() as patched:
        patched.setattr(torch.distributed.checkpoint, "save", save_a_part)
        with pytest.raises(OSError, match=r"the checkpoint cannot be written \(rank 1: .*No space left on device\)"):
            run(True, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch-2", "run.json"]
    assert len(run(True, 3).history) == 3


def test_more_ranks_than_triples_in_a_batch():
    settings = dataclasses.replace(SETTINGS, epochs=1, patience=None, batch_size=299)  # and one triple
    check_alike(lambda split: make("mf", split), planted_split(), settings, 3)


def test_any_number_of_ranks_resumes(tmp_path):
    split, file = planted_split(), tmp_path / "run.safetensors"
    settings = dataclasses.replace(SETTINGS, patience=None)

    def run(ranks, epochs, resume):
        some = dataclasses.replace(settings, epochs=epochs)
        return trained(lambda split: make("mf", split), split, some, ranks, [Checkpoint(file, resume=resume)])

    on_ranks(2, lambda ranks: run(ranks, 3, False))
    resumed = on_ranks(3, lambda ranks: run(ranks, 6, True))
    whole = trained(lambda split: make("mf", split), split, dataclasses.replace(settings, epochs=6))
    for ours, one in zip(resumed[0][0], whole[0], strict=True):
        torch.testing.assert_close(ours, one, rtol=1e-4, atol=1e-5)
    assert run(None, 7, True)[2][:6] == resumed[0][2]


def test_a_checkpoint_that_one_rank_alone_goes_on_from_is_told(tmp_path):
    """As where the hosts of processes that were started again share no file system."""
    split, file = planted_split(), tmp_path / "run.safetensors"
    settings = dataclasses.replace(SETTINGS, epochs=2, patience=None)

    def run(ranks, resume, settings):
        return trained(lambda split: make("mf", split), split, settings, ranks, [Checkpoint(file, resume=resume)])

    on_ranks(2, lambda ranks: run(ranks, False, settings))
    longer = dataclasses.replace(settings, epochs=3)
    with pytest.raises(AssertionError, match=r"'epoch_to_go_on_from': '2'.*'epoch_to_go_on_from': '0'"):
        on_ranks(2, lambda ranks: run(ranks, ranks.rank == 0, longer))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_metrics_are_those_of_one_process_bit_for_bit(size):
    split, rng = planted_split(), np.random.default_rng(0)
    users, items = (torch.tensor(rng.normal(size=(count, 8)), dtype=torch.float32) for count in (USERS, ITEMS))

    def rank(ranks=None):
        return evaluate_ranking(users, items, split.train, split.test, (3, 10), batch_size=7, ranks=ranks)

    assert on_ranks(size, rank) == [rank()] * size


def test_one_rank_s_nan_is_told_by_all():
    split = planted_split()
    rows = torch.zeros(USERS, 8)
    rows[3] = torch.nan  # of the first batch, which one rank alone reads

    def refused(ranks):
        with pytest.raises(InputError, match="user_repr must be finite"):
            evaluate_ranking(rows.__getitem__, torch.ones(ITEMS, 8), split.train, split.test, batch_size=7, ranks=ranks)
        return True

    assert on_ranks(3, refused) == [True] * 3


def test_recorded_steps_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    settings = dataclasses.replace(SETTINGS, cuda_graph=True, device="cuda")
    split = planted_split()
    with pytest.raises(InputError, match="cuda_graph must be False for several ranks, got True"):
        train(make("mf", split), split, settings, ranks=object())
