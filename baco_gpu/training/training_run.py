"""A training run between two epochs: what it has done, and the best weights so far."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.evaluation.ranking import evaluate_ranking
from baco_gpu.models.model import Model
from baco_gpu.ranks import Ranks
from baco_gpu.stopwatch import Stopwatch
from baco_gpu.tables.embedding_table import encode
from baco_gpu.tables.full import tables_in
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings

DROP = 8  # to a fraction of the learning rate


class TrainingRun:
    """The state of a training run, which callbacks may read.

    Attributes
    ----------
    model : Model
        With the weights of the last epoch, until the end of the run.
    split : SplitInteractions
    settings : TrainingSettings
    optimizer : Optimizer
    ranks : Ranks or None
        The processes that train together; None where there is one.
    history : list of EpochRecord
        The epochs so far.
    best_epoch : int
        The epoch of the highest validation recall so far, 0 where none was evaluated.
    best_score : float
        Its validation recall.
    stale : int
        Evaluations since then, or since the stage began.
    stage : int
        How often patience has run out: `settings.lr_drops` stages later the learning rate has dropped as often. Tables
        that store less than floats have two more then, the first at the same rate and the second at an eighth of it.
    rounding : bool
        Whether tables that store less than floats are trained, and evaluated, as they are stored by now.
    evaluation_seconds : float
    """

    def __init__(
        self,
        model: Model,
        split: SplitInteractions,
        settings: TrainingSettings,
        optimizer: Optimizer,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.split = split
        self.settings = settings
        self.optimizer = optimizer
        self.ranks = ranks
        self.history: list[EpochRecord] = []
        self.best_epoch = 0
        self.best_score = -math.inf
        self.stale = 0
        self.stage = 0
        self.evaluation_seconds = 0.0
        self.best: dict[str, Tensor] | None = None
        self._tables = tables_in(model)
        for table in self._tables:
            table.begin_training()
        self._last_stage = settings.lr_drops + 2 * any(table.is_quantized for table in self._tables)

    @cached_property
    def data_checksum(self) -> str:
        """SHA-256, in hexadecimal, of all interactions, and of their times where the model learns from these."""
        digest = hashlib.sha256(f"{self.split.num_users} {self.split.num_items}".encode())
        for part in self.split.parts:
            times = part.timestamps if self.model.needs_timestamps else None
            for column in (part.users, part.items, part.weights, times):
                if column is not None:
                    digest.update(f"{column.dtype.str} {len(column)}".encode())
                    digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    @property
    def epoch(self) -> int:
        """The number of the last epoch; 0 before the first."""
        return len(self.history)

    @property
    def criterion(self) -> str:
        """The name of the metric that decides the best epoch."""
        return f"recall@{self.settings.k}"

    @property
    def finished(self) -> bool:
        """Whether there were enough epochs, or patience has run out in the last stage."""
        return self.epoch >= self.settings.epochs or (self._exhausted and self.stage >= self._last_stage)

    @property
    def fake_quantization(self) -> bool:
        return self.stage > self.settings.lr_drops

    @property
    def _exhausted(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.stale >= patience

    def note(self, loss: float, seconds: float) -> EpochRecord:
        """Take down the epoch just trained, evaluated if it is its turn, and keep its weights if they are the best."""
        epoch, settings = self.epoch + 1, self.settings
        metrics = None
        if len(self.split.validation) and (epoch % settings.evaluate_every == 0 or epoch == settings.epochs):
            metrics = self.evaluate(self.split.validation, (settings.k,))
            self.stale += 1
            if metrics[self.criterion] > self.best_score:
                self.best_score, self.best_epoch, self.stale = metrics[self.criterion], epoch, 0
                self._keep()
        self.history.append(EpochRecord(epoch, loss, seconds, metrics))
        return self.history[-1]

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Where patience has run out, go back to the best weights, forget Adam's state, and begin the next stage.

        Once rows are rounded, what is to be better than the best weights is better than what is stored of them. Rows of
        product codes get their codes then, and new ones before every epoch.
        """
        if self._exhausted:
            self.restore()
            for state in self.optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()
            floats = not self.fake_quantization
            self.stage, self.stale = self.stage + 1, 0
            self.set_learning_rate()
            if self.fake_quantization and floats:
                encode(self._tables, self.settings.seed)
                self.best_score = self.evaluate(self.split.validation, (self.settings.k,))[self.criterion]
                self._keep()
        for table in self._tables:
            table.begin_epoch(stored=self.fake_quantization)

    def set_learning_rate(self) -> None:
        """Give the optimiser the learning rate of the stage."""
        drops = self.stage - self.fake_quantization
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate / DROP**drops

    def evaluate(self, held_out: Interactions, ks: tuple[int, ...]) -> dict[str, float]:
        """Metrics of the model as it is on `held_out`, with the training items masked."""
        watch = Stopwatch()
        with torch.no_grad():
            metrics = evaluate_ranking(*self.model.ranked(), self.split.train, held_out, ks, ranks=self.ranks)
        self.evaluation_seconds += watch.seconds
        return metrics

    def _keep(self) -> None:
        # Codes and other buffers too: a callback may have changed them.
        current = self.model.state_dict()
        if self.best is None:
            self.best = {name: torch.empty_like(tensor) for name, tensor in current.items()}
        torch._foreach_copy_([self.best[name] for name in current], list(current.values()))

    def restore(self) -> None:
        """Give the model its best weights, where an epoch was evaluated, and let it see them as they are stored."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        for table in self._tables:
            table.see_stored(True)

    def finish(self, samples_per_epoch: int) -> TrainingResult:
        """Rank the validation and the test part with the weights that the model has, as they are stored, and report."""
        encode(self._tables, self.settings.seed)
        ks = tuple(sorted({*self.settings.ks, self.settings.k}))
        validation, test = (
            self.evaluate(part, ks) if len(part) else {} for part in (self.split.validation, self.split.test)
        )
        return TrainingResult(
            history=self.history,
            best_epoch=self.best_epoch or len(self.history),
            validation=validation,
            test=test,
            training_seconds=sum(record.seconds for record in self.history),
            evaluation_seconds=self.evaluation_seconds,
            samples=samples_per_epoch * len(self.history),
        )
