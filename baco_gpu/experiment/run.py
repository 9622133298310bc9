"""One row of a comparison: train a recommender over the tables of a compression, and rank the held-out items."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.experiment.compression import Compression
from baco_gpu.experiment.model_answers import recommender_of
from baco_gpu.methods.registry import METHODS, find_method
from baco_gpu.models.model import USERS, Model, build_model, find_model, model_options
from baco_gpu.progress import Progress, silent
from baco_gpu.ranks import Ranks
from baco_gpu.serving.answers import Recommender
from baco_gpu.stopwatch import Stopwatch
from baco_gpu.tables.export import export_codebook
from baco_gpu.tables.full import as_table, size_of
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.settings import TrainingResult, TrainingSettings
from baco_gpu.training.trainer import train


@dataclass(frozen=True)
class Outcome:
    """A trained recommender over compressed (or full) tables, and all that is reported of it."""

    compression: Compression
    model: Model
    model_name: str
    training: TrainingResult
    split: SplitInteractions
    options: Mapping[str, Any]  # all of the model's
    compiling: float = 0.0  # seconds, in no other figure

    def __repr__(self) -> str:
        return f"Outcome({self.model_name!r} over {self.compression!r}, {self.training!r})"

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Epoch and validation recall@20 of every epoch that was evaluated."""
        return [(record.epoch, record.validation["recall@20"]) for record in self.training.history if record.validation]

    def recommender(self) -> Recommender:
        """What answers by the model; seen are the interactions of all parts of the split."""
        return recommender_of(self.model, self.split.whole)

    def summary(self) -> dict[str, Any]:
        """The figures under the names that `baco train --json` prints; metrics are those of the test part.

        What tables cost is of those that the model has, beside full ones of the same.
        """
        compression, training = self.compression, self.training
        tables = self.model.tables.values()
        size, own = size_of(*tables), sum(table.num_embeddings for table in tables)
        whole = compression.full
        full, full_bytes = (total * own // whole.full_rows for total in (whole.full_parameters, whole.full_bytes))
        return {
            "method": compression.method,
            "model": self.model_name,
            "codebook_rows": size.rows,
            "parameters": size.parameters,
            "parameters_full": full,
            "bytes": size.nbytes,
            "bytes_full": full_bytes,
            "compression": 1.0 - size.parameters / full if full else 0.0,
            "epochs": len(training.history),
            "best_epoch": training.best_epoch,
            **training.test,
            "validation": training.validation,
            "seconds_clustering": compression.seconds,
            "seconds_training": training.training_seconds,
            "seconds_evaluation": training.evaluation_seconds,
            "seconds_compiling": self.compiling,
        }


def check_names(*, method: str, model: str) -> None:
    """Raise InputError unless both names are known and go together, and MissingExtraError where one cannot run here."""
    chosen, kind = find_method(method), find_model(model)
    chosen.check_installed()
    if chosen.joint and USERS not in kind.table_names:
        fit = ", ".join(each.name for each in METHODS if not each.joint)
        raise InputError(
            f"method {method!r} makes tables of users and of items that need one another, and model {model!r} has one "
            f"of {' and '.join(kind.table_names)} alone: it takes {fit}"
        )


def run(
    split: SplitInteractions,
    compression: Compression,
    model: str,
    settings: TrainingSettings,
    *,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    callbacks: Sequence[Callback] = (),
    ranks: Ranks | None = None,
) -> Outcome:
    """Train the model of that name over the tables of `compression`, and rank the test part.

    Tables are left without what only training reads: those of product codes can be trained no second time.

    `options` are those of the model, where they are not its defaults.

    `callbacks` follow the training (see `baco_gpu.training.Callback`), after the report of progress and what the
    method of `compression` does between epochs.

    `ranks` are the processes that train together, where there are several (see `baco_gpu.training.train`).

    Raises
    ------
    InputError
        If the model is unknown or the split does not suit it.
    """
    if compression.shared and USERS not in find_model(model).table_names:
        raise InputError(f"codebooks must be 'separate' for model {model!r}, which has no table of users, got 'shared'")
    recommender = build_model(model, compression.tables, split, **options or {})
    every = (ReportProgress(progress), *compression.callbacks, *callbacks)
    watch = Stopwatch()
    training = train(recommender, split, settings, every, ranks=ranks)
    for table in recommender.tables.values():
        as_table(table).finalize()
    own = asdict(model_options(model, options or {}))
    return Outcome(compression, recommender, model, training, split, own, compression.compiling + watch.compiling)


def export_tables(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write the model's tables as `baco_gpu.serving` reads them, in the bits they train for, under what they are of.

    Raises
    ------
    InputError
        If the tables are no codebooks, or ids have weights of their own.
    """
    return export_codebook(outcome.model.tables, path)  # type: ignore[arg-type]  # which it checks
