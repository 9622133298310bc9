"""What may listen to a training run, and act between its epochs: loggers, checkpoints, methods that regroup codes."""

from __future__ import annotations

from typing import Protocol

from baco_gpu.progress import Progress
from baco_gpu.training.settings import EpochRecord, TrainingResult
from baco_gpu.training.training_run import TrainingRun


class Callback(Protocol):
    """Called at three moments of a run, in the order in which `train` was given its callbacks.

    Any object with these three methods will do; a subclass inherits methods that do nothing. What a callback raises
    ends the run as an interrupt does: the best weights are restored, and the error passes on.

    A callback may change `run.model` and `run.optimizer` in place, between epochs: values and codes, not shapes. What
    it draws at random should come from `run.settings.seed` and the number of the epoch, so that a resumed run draws
    the same.
    """

    def on_start(self, run: TrainingRun) -> None:
        """The model is on its device with its initial weights, and no epoch has been trained."""
        return

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        """The epoch of `record` is trained, evaluated if it was its turn, and kept if it was the best."""
        return

    def on_end(self, run: TrainingRun, result: TrainingResult) -> None:
        """The best weights are restored and ranked. Not called where an error or an interrupt ended the run."""
        return


class ReportProgress(Callback):
    """Calls `progress("training", epoch, epochs, note)` after every epoch; the note has the loss and the recall."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        note = f"loss {record.loss:.4f}"
        if record.validation is not None:
            note += f", validation {run.criterion} {record.validation[run.criterion]:.4f}"
        self.progress("training", record.epoch, run.settings.epochs, note)
