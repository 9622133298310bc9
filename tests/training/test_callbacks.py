"""Callbacks: told of every moment of a training run, in order, and free to change the model between epochs."""

import numpy as np
import pytest
import torch

from baco_gpu.tables import CodebookEmbedding
from baco_gpu.training import Callback, TrainingSettings, train
from planted_training import GROUPS, USERS, make, planted_split, same, weights

pytestmark = pytest.mark.heavy("trains models")

QUICK = TrainingSettings(epochs=3, batch_size=64, learning_rate=1e-2)


class Notebook:
    """Three methods and no base class: all that is asked of a callback."""

    def __init__(self, notes, name):
        self.notes, self.name = notes, name

    def on_start(self, run):
        self.notes.append((self.name, "start", run.epoch))

    def on_epoch(self, run, record):
        self.notes.append((self.name, record.epoch, run.history[-1] is record))

    def on_end(self, run, result):
        self.notes.append((self.name, "end", result.best_epoch == run.best_epoch))


def test_callbacks_hear_of_every_moment_in_their_order():
    split, notes = planted_split(), []
    train(make(split=split), split, QUICK, [Notebook(notes, "a"), Notebook(notes, "b")])
    moments = [("start", 0), (1, True), (2, True), (3, True), ("end", True)]
    assert notes == [(name, *moment) for moment in moments for name in "ab"]


def test_a_subclass_need_not_listen_to_everything():
    split, epochs = planted_split(), []

    class Epochs(Callback):
        def on_epoch(self, run, record):
            epochs.append(record.epoch)

    model = make(split=split)
    plain = train(make(split=split), split, QUICK)
    assert train(model, split, QUICK, [Epochs()]).test == plain.test
    assert epochs == [1, 2, 3]


def test_a_callback_may_regroup_codes_and_the_best_epoch_keeps_its_own():
    split = planted_split()

    class Regroup(Callback):
        """After the first epoch users move one group on, and the optimiser forgets what it knew of the rows."""

        def on_epoch(self, run, record):
            if record.epoch == 1:
                table = run.model.user_embedding
                table.assignments.copy_((table.assignments + 1) % table.num_rows)
                run.optimizer.state[table.codebook]["exp_avg"].zero_()

    kept = []

    class Watch(Callback):
        def on_epoch(self, run, record):
            kept.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    model = make(split=split, compressed=True)
    before = model.user_embedding.assignments.clone()
    result = train(model, split, QUICK, [Watch(), Regroup()])
    wanted = kept[result.best_epoch - 1]
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(kept[0]["user_embedding.assignments"], before)
    assert not torch.equal(kept[1]["user_embedding.assignments"], before)


def test_what_a_callback_raises_passes_on_and_leaves_the_best_weights():
    split, seen = planted_split(), []

    class Break(Callback):
        def on_epoch(self, run, record):
            seen.append(weights(run.model))
            if record.epoch == 2:
                self.best = run.best_epoch
                raise OSError("the disk is full")

    model, broken = make(split=split), Break()
    with pytest.raises(OSError, match="the disk is full"):
        train(model, split, QUICK, [broken])
    assert same(weights(model), seen[broken.best - 1])
    assert not model.training


def test_a_run_tells_what_it_is_about():
    split, told = planted_split(), {}

    class Look(Callback):
        def on_start(self, run):
            told.update(model=run.model, split=run.split, settings=run.settings, criterion=run.criterion)
            told["before"] = run.finished

        def on_end(self, run, result):
            told["after"] = run.finished

    tables = CodebookEmbedding(np.arange(USERS) % GROUPS, 8)
    model = make(split=split)
    model.user_embedding = tables
    train(model, split, QUICK, [Look()])
    assert told["model"] is model
    assert told["split"] is split
    assert told["settings"] is QUICK
    assert (told["criterion"], told["before"], told["after"]) == ("recall@20", False, True)
