"""Checkpoints: a run that was killed ends as if it had not been, and no other run takes its place."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from baco_gpu.errors import DeviceLostError, InputError
from baco_gpu.tables.facts import without_facts
from baco_gpu.training import Callback, Checkpoint, TrainingSettings, checkpoint, train, trainer
from baco_gpu.training.training_run import TrainingRun
from planted_training import make, planted_split, same, weights
from tiers import full

pytestmark = pytest.mark.heavy("trains models")

SETTINGS = TrainingSettings(epochs=6, batch_size=64, learning_rate=1e-2, evaluate_every=2)


class StoppedError(Exception):
    pass


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch(self, run, record):
        if record.epoch == self.epoch:
            raise StoppedError


def told(result):
    """All of a result but its clocks."""
    history = [(record.epoch, record.loss, record.validation) for record in result.history]
    return history, result.best_epoch, result.validation, result.test, result.samples


class KeepStart(Callback):
    def on_start(self, run):
        self.state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def interrupted(path, epoch=3, every=1, settings=SETTINGS, **tables):
    """Leaves a checkpoint; returns the state that the run began with."""
    split, start = planted_split(), KeepStart()
    model = make(split=split, compressed=True, **tables)
    with pytest.raises(StoppedError):
        train(model, split, settings, [start, Checkpoint(path, every), StopAfter(epoch)])
    return start.state


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("epoch", [2, 3, 5])
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, every, epoch):
    split, path = planted_split(), tmp_path / "run.safetensors"
    whole, resumed = make(split=split, compressed=True), make(split=split, compressed=True)
    expected = train(whole, split, SETTINGS)
    interrupted(path, epoch, every)
    result = train(resumed, split, SETTINGS, [Checkpoint(path, every, resume=True)])
    assert told(result) == told(expected)
    assert same(weights(resumed), weights(whole))


class LostAfter(Callback):
    """A GPU that fails in the epoch after this one, and whatever is asked of it from then on."""

    ERROR = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    def __init__(self, epoch, monkeypatch):
        self.epoch, self.patch = epoch, monkeypatch

    def on_epoch(self, run, record):
        if record.epoch == self.epoch:
            for part in ("_wait_for", "_train_epoch"):
                self.patch.setattr(trainer, part, self.fail)
            self.patch.setattr(run, "restore", self.fail)

    def fail(self, *_):
        raise self.ERROR


def test_a_gpu_that_is_lost_ends_the_run_and_leaves_the_checkpoint_whole(tmp_path, monkeypatch):
    split, path = planted_split(), tmp_path / "run.safetensors"
    whole, resumed = make(split=split, compressed=True), make(split=split, compressed=True)
    expected = train(whole, split, SETTINGS)
    with (
        monkeypatch.context() as lost,
        pytest.raises(DeviceLostError, match=r"^cpu has failed, .*: CUDA error: an illegal"),
    ):
        train(make(split=split, compressed=True), split, SETTINGS, [Checkpoint(path), LostAfter(3, lost)])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    result = train(resumed, split, SETTINGS, [Checkpoint(path, resume=True)])
    assert told(result) == told(expected)
    assert same(weights(resumed), weights(whole))


# Few bits and product codes have two more stages than the one of `lr_drops`, or of none.
@pytest.mark.parametrize(
    ("lr_drops", "tables"),
    [
        (2, {}),
        (0, {"bits": 3}),
        (0, {"product": True}),
        (2, {"low_precision": 7}),
        (0, {"product": True, "row_bits": 16}),
        (0, {"product": True, "row_bits": 8}),
    ],
)
@pytest.mark.parametrize("epoch", full([2, 3, 5, 7, 8], [5]))
def test_a_run_whose_learning_rate_drops_is_resumed_to_the_same_end(tmp_path, monkeypatch, epoch, lr_drops, tables):
    scores = {1: 0.3, 5: 0.5}  # of epochs; others are worse, so that the rate drops after the third and the seventh

    def evaluate(self, held_out, ks):
        return {f"recall@{k}": scores.get(self.epoch + 1, 0.1) for k in ks}

    monkeypatch.setattr(TrainingRun, "evaluate", evaluate)
    split, path = planted_split(), tmp_path / "run.safetensors"
    settings = dataclasses.replace(SETTINGS, epochs=12, evaluate_every=1, patience=2, lr_drops=lr_drops)
    whole, resumed = (make(split=split, compressed=True, **tables) for _ in range(2))
    expected = train(whole, split, settings)
    assert [record.epoch for record in expected.history] == list(range(1, 10))
    interrupted(path, epoch, settings=settings, **tables)
    result = train(resumed, split, settings, [Checkpoint(path, resume=True)])
    assert told(result) == told(expected)
    assert same(weights(resumed), weights(whole))
    short = dataclasses.replace(settings, epochs=epoch)
    path = tmp_path / "short.safetensors"
    train(make(split=split, compressed=True, **tables), split, short, [Checkpoint(path)])
    result = train(make(split=split, compressed=True, **tables), split, settings, [Checkpoint(path, resume=True)])
    assert told(result) == told(expected)


NAMES_OF_VERSION_2 = [
    (".codes", ".numbers"),
    (".assignments", ".codes"),
    (".latent_weight.", ".behind."),
    ("(latent_weight): QuantizedEmbedding(", "(behind): LowPrecisionEmbedding("),
    ("QuantizedEmbedding(", "LowPrecisionEmbedding("),
    ("code_bits=", "number_bits="),
]


def by_names_of_version_2(text):
    for current, former in NAMES_OF_VERSION_2:
        text = text.replace(current, former)
    return text


@pytest.mark.parametrize(
    "tables", [{}, {"low_precision": 7}, {"product": True}, {"product": True, "row_bits": 8}], ids=str
)
def test_a_checkpoint_of_version_2_is_resumed(tmp_path, tables):
    split, path = planted_split(), tmp_path / "run.safetensors"
    whole, resumed = (make(split=split, compressed=True, **tables) for _ in range(2))
    expected = train(whole, split, SETTINGS)
    start = interrupted(path, **tables)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {by_names_of_version_2(name): tensor for name, tensor in without_facts(load_file(path)).items()}
    run = json.loads(by_names_of_version_2(metadata["run"]))
    state = {by_names_of_version_2(f".{name}")[1:]: tensor for name, tensor in without_facts(start).items()}
    indices = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    run["identity"]["model"][2] = checkpoint.checksum_of(indices, "")
    text = json.dumps(run)
    former = {"run": text, "format_version": "2", "sha256": checkpoint.checksum_of(tensors, text)}
    save_file(tensors, path, metadata | former)
    result = train(resumed, split, SETTINGS, [Checkpoint(path, resume=True)])
    assert told(result) == told(expected)
    assert same(weights(resumed), weights(whole))


def test_a_finished_run_trains_no_further_and_may_be_given_more_epochs(tmp_path):
    split, path = planted_split(), tmp_path / "run.safetensors"
    first = train(make(split=split), split, SETTINGS, [Checkpoint(path, 4)])
    again = train(make(split=split), split, SETTINGS, [Checkpoint(path, 4, resume=True)])
    assert told(again) == told(first)
    longer = dataclasses.replace(SETTINGS, epochs=8)
    whole = train(make(split=split), split, longer)
    assert told(train(make(split=split), split, longer, [Checkpoint(path, resume=True)])) == told(whole)
    with pytest.raises(InputError, match="epochs must be at least the 8 trained, got 6"):
        train(make(split=split), split, SETTINGS, [Checkpoint(path, resume=True)])


def test_killed_at_any_point_the_command_resumes_to_the_same_file(tmp_path):
    data = tmp_path / "clicks.csv"
    train_part = planted_split().train
    lines = [f"{user},{item}" for user, item in zip(train_part.users, train_part.items, strict=True)]
    data.write_text("\n".join(["user,item", *lines]))
    command = [sys.executable, "-m", "baco_gpu", "train", str(data), "--budget", "0.5", "--quiet"]
    command += ["--patience", "50", "--batch-size", "64", *full(["--epochs", "6"], ["--epochs", "4", "--dim", "8"])]
    whole, resumed, kept = (tmp_path / f"{name}.safetensors" for name in ("whole", "resumed", "kept"))
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    # SIGKILL comes inside the write of the third checkpoint, before it takes its name.
    killer = (
        "import os, signal, sys, pathlib, baco_gpu.cli.main as main\n"
        "replace, count = pathlib.Path.replace, [0]\n"
        "def kill(self, target):\n"
        "    count[0] += 1\n"
        "    if count[0] == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = kill\n"
        "sys.argv = ['baco', *sys.argv[1:]]\n"
        "main.run()\n"
    )
    killed = subprocess.run([sys.executable, "-c", killer, *command[3:], "--checkpoint", str(kept)], check=False)
    assert killed.returncode == -signal.SIGKILL
    arguments = ["--checkpoint", str(kept), "--resume", "--out", str(resumed)]
    subprocess.run([*command, *arguments], check=True, capture_output=True)
    expected, got = load_file(whole), load_file(resumed)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "of another run: seed was 0, got 4"),
        ({"learning_rate": 0.5}, r"learning_rate was 0\.01, got 0\.5"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, message):
    path, split = tmp_path / "run.safetensors", planted_split()
    interrupted(path)
    settings = dataclasses.replace(SETTINGS, **change)
    with pytest.raises(InputError, match=message):
        train(make(split=split, compressed=True), split, settings, [Checkpoint(path, resume=True)])


def test_a_checkpoint_of_other_data_or_another_model_is_refused(tmp_path):
    path, split, other = tmp_path / "run.safetensors", planted_split(), planted_split(1)
    interrupted(path)
    with pytest.raises(InputError, match="its data differs"):
        train(make(split=other, compressed=True), other, SETTINGS, [Checkpoint(path, resume=True)])
    with pytest.raises(InputError, match="its model differs"):
        train(make(split=split), split, SETTINGS, [Checkpoint(path, resume=True)])


def test_files_that_are_no_whole_checkpoint_are_refused(tmp_path):
    path, split = tmp_path / "run.safetensors", planted_split()
    interrupted(path)
    stored = path.read_bytes()

    def resume():
        train(make(split=split, compressed=True), split, SETTINGS, [Checkpoint(path, resume=True)])

    for damaged, message in (
        (stored[:-100], "not a readable checkpoint"),
        (stored[:-1] + bytes([stored[-1] ^ 1]), "do not match their checksum"),
        (b"", "not a readable checkpoint"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=message):
            resume()
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="got another safetensors file"):
        resume()
    save_file({"x": torch.zeros(1)}, path, {"format": "baco_gpu.checkpoint", "format_version": "9"})
    with pytest.raises(InputError, match="expected format version 3, got 9"):
        resume()
    path.unlink()
    with pytest.raises(InputError, match="no such file; expected a checkpoint"):
        resume()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best_epoch": -5}, "best_epoch must be an integer at least 0, got -5"),
        ({"stage": 1.0}, r"stage must be an integer at least 0, got 1\.0"),
        ({"best_score": float("nan")}, "best_score must be a finite number, got nan"),
        ({"evaluation_seconds": None}, "evaluation_seconds must be a finite number"),
        ({"history": [{"epoch": 99, "loss": 0.1, "seconds": 0.1}]}, "epoch must be an integer from 1 to 1, got 99"),
        ({"history": [{"epoch": 1, "loss": float("nan"), "seconds": 0.1}]}, "loss must be a finite number"),
        ({"history": [{"epoch": 1}]}, "damaged checkpoint"),
        ({"history": 7}, "damaged checkpoint"),
    ],
)
def test_progress_that_no_run_makes_is_refused(tmp_path, change, message):
    path, split = tmp_path / "run.safetensors", planted_split()
    interrupted(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored = json.loads(metadata["run"])
    stored["progress"] |= change
    metadata["run"] = json.dumps(stored)
    metadata["sha256"] = checkpoint.checksum_of(tensors, metadata["run"])
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match=message):
        train(make(split=split, compressed=True), split, SETTINGS, [Checkpoint(path, resume=True)])


def test_a_checkpoint_is_not_overwritten_by_a_new_run(tmp_path):
    path = tmp_path / "run.safetensors"
    interrupted(path)
    split = planted_split()
    with pytest.raises(InputError, match="there is a checkpoint already"):
        train(make(split=split), split, SETTINGS, [Checkpoint(path)])
    with pytest.raises(InputError, match="every must be an integer at least 1, got 0"):
        Checkpoint(path, 0)
