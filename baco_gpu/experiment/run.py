"""One row of a comparison: train a recommender over the tables of a compression, and rank the held-out items."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baco_gpu.baselines.registry import find_method
from baco_gpu.checks import check_choice
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.experiment.compression import Compression
from baco_gpu.models.build import MODELS, build_model
from baco_gpu.models.recommender import Recommender
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.export import export_codebook
from baco_gpu.tables.full import as_table
from baco_gpu.tensor_file import save_tensors
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.settings import TrainingResult, TrainingSettings
from baco_gpu.training.trainer import train


@dataclass(frozen=True)
class Outcome:
    """A trained recommender over compressed (or full) tables, and all that is reported of it."""

    compression: Compression
    model: Recommender
    model_name: str
    training: TrainingResult

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Epoch and validation recall@20 of every epoch that was evaluated."""
        return [(record.epoch, record.validation["recall@20"]) for record in self.training.history if record.validation]

    def summary(self) -> dict[str, Any]:
        """The figures under the names that `baco train --json` prints; metrics are those of the test part."""
        compression, training = self.compression, self.training
        full = compression.full_parameters
        return {
            "method": compression.method,
            "model": self.model_name,
            "codebook_rows": compression.rows,
            "parameters": compression.parameters,
            "parameters_full": full,
            "bytes": compression.bytes,
            "bytes_full": compression.full_bytes,
            "compression": 1.0 - compression.parameters / full if full else 0.0,
            "epochs": len(training.history),
            "best_epoch": training.best_epoch,
            **training.test,
            "validation": training.validation,
            "seconds_clustering": compression.seconds,
            "seconds_training": training.training_seconds,
            "seconds_evaluation": training.evaluation_seconds,
        }


def check_names(*, method: str, model: str) -> None:
    """Raise InputError unless both names are known, and MissingExtraError unless the method can run here."""
    find_method(method).check_installed()
    check_choice("model", model, MODELS)


def run(
    split: SplitInteractions,
    compression: Compression,
    model: str,
    settings: TrainingSettings,
    *,
    num_layers: int = 2,
    progress: Progress = silent,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Train `model` ("lightgcn" or "mf") over the tables of `compression`, and rank the test part.

    Tables are left without what only training reads: those of product codes can be trained no second time.

    `callbacks` follow the training (see `baco_gpu.training.Callback`), after the report of progress and what the
    method of `compression` does between epochs.

    Raises
    ------
    InputError
        If the model is unknown or the split does not suit it.
    """
    check_choice("model", model, MODELS)
    recommender = build_model(model, compression.user_table, compression.item_table, split, num_layers=num_layers)
    training = train(recommender, split, settings, (ReportProgress(progress), *compression.callbacks, *callbacks))
    for table in (compression.user_table, compression.item_table):
        as_table(table).finalize()
    return Outcome(compression, recommender, model, training)


def export_tables(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write both tables, "users" and "items", as `baco_gpu.serving` reads them: rows are in the bits they train for.

    Raises
    ------
    InputError
        If the tables are no codebooks, or ids have weights of their own.
    """
    tables = {"users": outcome.compression.user_table, "items": outcome.compression.item_table}
    return export_codebook(tables, path)  # type: ignore[arg-type]  # which it checks


def save_model(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write the trained tables of `outcome` to one safetensors file, whole or not at all; returns the path.

    The tensors are the `state_dict` of the two tables under the prefixes "users." and "items." (codebook, codes and
    secondary codes, or the full weight). A codebook or centroids of both are there as those of users, and the metadata
    names them under "items.codebook" and so on, as `safetensors.torch.load_model` expects; the summary is there, too,
    as JSON.
    """
    from safetensors.torch import save_file

    tables = {"users": outcome.compression.user_table, "items": outcome.compression.item_table}
    tensors = {
        f"{side}.{name}": tensor.detach().cpu().contiguous()
        for side, table in tables.items()
        for name, tensor in table.state_dict().items()
    }
    metadata = {"format": "baco_gpu.model", "format_version": "1", "summary": json.dumps(outcome.summary())}
    for name in outcome.compression.common:
        del tensors[f"items.{name}"]
        metadata[f"items.{name}"] = f"users.{name}"
    return save_tensors(save_file, tensors, path, metadata)
