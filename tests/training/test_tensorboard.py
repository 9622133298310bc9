"""What TensorBoard shows is what the run says of itself."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from baco_gpu.cli.main import app
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.training import TrainingSettings, train
from baco_gpu.training.tensorboard import TensorBoardLogger
from planted_training import make, planted_split

pytestmark = pytest.mark.heavy("trains models")


def curves(folder):
    """Every scalar of the folder: its (epoch, value) pairs."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_the_curves_are_those_of_the_run(tmp_path):
    split = planted_split()
    settings = TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2, evaluate_every=2)
    result = train(make(split=split), split, settings, [TensorBoardLogger(tmp_path / "run")])
    shown = curves(tmp_path / "run")
    assert shown["training/loss"] == [(r.epoch, pytest.approx(r.loss)) for r in result.history]
    assert len(shown["training/seconds"]) == 4
    evaluated = [(r.epoch, pytest.approx(r.validation["recall@20"])) for r in result.history if r.validation]
    assert shown["validation/recall@20"] == evaluated
    assert [epoch for epoch, _ in evaluated] == [2, 4]
    for name, value in result.test.items():
        assert shown[f"final/test/{name}"] == [(result.best_epoch, pytest.approx(value))]


def test_the_command_writes_curves(tmp_path):
    clicks = tmp_path / "clicks.csv"
    lines = [f"{user},{item}" for user in range(30) for item in range(12) if (user + item) % 3 == 0]
    clicks.write_text("user,item\n" + "\n".join(lines) + "\n")
    folder = tmp_path / "curves"
    command = ["train", str(clicks), "--model", "mf", "--method", "full", "--epochs", "2", "--tensorboard", str(folder)]
    outcome = CliRunner().invoke(app, command, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert [epoch for epoch, _ in curves(folder)["training/loss"]] == [1, 2]


def test_without_tensorboard_a_run_is_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"baco_gpu\[tensorboard\]"):
        TensorBoardLogger(tmp_path)


def test_a_file_is_no_folder_for_curves(tmp_path):
    (tmp_path / "taken").write_text("here")
    with pytest.raises(InputError, match=r"taken: the folder cannot be made \(File exists"):
        TensorBoardLogger(tmp_path / "taken")
