"""Curves of a training run for TensorBoard (extra `tensorboard`)."""

from __future__ import annotations

import os
from typing import Any

from baco_gpu.atomic import make_folder, note_written
from baco_gpu.errors import MissingExtraError
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.settings import EpochRecord, TrainingResult
from baco_gpu.training.training_run import TrainingRun


class TensorBoardLogger(Callback):
    """Writes a run's curves into a folder that `tensorboard --logdir` shows, every epoch as soon as it is over.

    The scalars are training/loss and training/seconds of every epoch, validation/METRIC of those that were evaluated,
    and, at the best epoch, final/validation/METRIC and final/test/METRIC. A resumed run goes on in a file of its own,
    from its next epoch.

    Parameters
    ----------
    folder : path
        Made where it is not there.

    Raises
    ------
    MissingExtraError
        If the package tensorboard is not installed.
    InputError
        If the folder cannot be made, as where a file has that name, or no file in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "curves for TensorBoard need tensorboard: pip install 'baco_gpu[tensorboard]'"
            ) from error
        self.folder = make_folder(folder)
        self._open = SummaryWriter
        self._writer: Any = None

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        scalars = {"training/loss": record.loss, "training/seconds": record.seconds}
        scalars |= {f"validation/{name}": value for name, value in (record.validation or {}).items()}
        self._write(scalars, record.epoch)

    def on_end(self, run: TrainingRun, result: TrainingResult) -> None:
        parts = {"validation": result.validation, "test": result.test}
        scalars = {f"final/{part}/{name}": value for part, metrics in parts.items() for name, value in metrics.items()}
        self._write(scalars, result.best_epoch)
        self._writer.close()
        self._writer = None

    def _write(self, scalars: dict[str, float], epoch: int) -> None:
        if self._writer is None:
            self._writer = self._open(str(self.folder))
            note_written(self.folder)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
