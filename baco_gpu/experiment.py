"""One row of a comparison: compress by a method, train a recommender over the tables, rank the held-out items."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baco_gpu.baselines.hashing import random_hashing
from baco_gpu.baselines.louvain import louvain_at_rows
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.clustering.budget import Budget, TableSize
from baco_gpu.clustering.estimator import BalancedCoclustering
from baco_gpu.clustering.result import CoclusteringResult
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.models.build import MODELS, build_model, full_table
from baco_gpu.models.recommender import Recommender, Table
from baco_gpu.progress import Progress, silent
from baco_gpu.tensor_file import save_tensors
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.settings import TrainingResult, TrainingSettings
from baco_gpu.training.trainer import train

METHODS = ("full", "random", "louvain", "codebook")


@dataclass(frozen=True)
class Compression:
    """A pair of tables, what they cost, and how long their assignment took."""

    method: str
    user_table: Table
    item_table: Table
    seconds: float
    result: CoclusteringResult | None = None

    @property
    def rows(self) -> int:
        return sum(_rows(table) for table in (self.user_table, self.item_table))

    @property
    def parameters(self) -> int:
        """Trained parameters, plus one for each secondary index (arXiv 2604.18351)."""
        return sum(_parameters(table) for table in (self.user_table, self.item_table))

    @property
    def bytes(self) -> int:
        """Tables or codebooks at their dtype, and index arrays."""
        return sum(_bytes(table) for table in (self.user_table, self.item_table))


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
        full = (compression.user_table.num_embeddings + compression.item_table.num_embeddings) * int(
            compression.user_table.embedding_dim
        )
        return {
            "method": compression.method,
            "model": self.model_name,
            "codebook_rows": compression.rows,
            "parameters": compression.parameters,
            "parameters_full": full,
            "bytes": compression.bytes,
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
    """Raise InputError unless both names are known."""
    check_choice("method", method, METHODS)
    check_choice("model", model, MODELS)


def compress(
    split: SplitInteractions,
    method: str,
    clustering: BalancedCoclustering,
    *,
    result: CoclusteringResult | None = None,
    progress: Progress = silent,
) -> Compression:
    """Make the user and item tables of a method, from the training part alone.

    Parameters
    ----------
    split : SplitInteractions
    method : {"full", "random", "louvain", "codebook"}
        "codebook" is ours; "random" is random hashing and "louvain" is GraphHash, both with as many parameters as the
        budget allows.
    clustering : BalancedCoclustering
        Says the budget, the embedding dimension and the seed for every method, and does the work for "codebook".
    result : CoclusteringResult, optional
        A finished clustering to use instead ("codebook" only).

    Raises
    ------
    InputError
        If the method is unknown, the budget cannot be met, or `result` belongs to another graph.
    """
    check_choice("method", method, METHODS)
    dim = check_integer("embedding_dim", clustering.embedding_dim, minimum=1)
    if result is not None and method != "codebook":
        raise InputError(f"a finished clustering serves method 'codebook' alone, got method {method!r}")
    if method == "full":
        return Compression(method, full_table(split.num_users, dim), full_table(split.num_items, dim), 0.0)

    graph = BipartiteGraph.from_interactions(split.train)
    started = time.perf_counter()
    if method == "codebook":
        if result is None:
            result = clustering.fit(graph, progress=progress).result_
        elif result.graph_checksum != graph.checksum():
            raise InputError(
                "the clustering was made from another graph than this training part: "
                f"expected checksum {graph.checksum()[:12]}..., got {result.graph_checksum[:12]}..."
            )
        users, items = result.users, result.items
        codes = (users.labels, users.secondary), (items.labels, items.secondary)
    else:
        codes = _baseline_codes(graph, method, clustering, dim)
    seconds = time.perf_counter() - started
    tables = [CodebookEmbedding(labels, dim, secondary) for labels, secondary in codes]
    return Compression(method, tables[0], tables[1], seconds, result)


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

    `callbacks` follow the training (see `baco_gpu.training.Callback`), after the report of progress.

    Raises
    ------
    InputError
        If the model is unknown or the split does not suit it.
    """
    check_choice("model", model, MODELS)
    recommender = build_model(model, compression.user_table, compression.item_table, split, num_layers=num_layers)
    training = train(recommender, split, settings, (ReportProgress(progress), *callbacks))
    return Outcome(compression, recommender, model, training)


def save_model(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write the trained tables of `outcome` to one safetensors file, whole or not at all; returns the path.

    The tensors are the `state_dict` of the two tables under the prefixes "users." and "items." (codebook, codes and
    secondary codes, or the full weight); the metadata has the summary as JSON.
    """
    from safetensors.torch import save_file

    tables = {"users": outcome.compression.user_table, "items": outcome.compression.item_table}
    tensors = {
        f"{side}.{name}": tensor.detach().cpu().contiguous()
        for side, table in tables.items()
        for name, tensor in table.state_dict().items()
    }
    metadata = {"format": "baco_gpu.model", "format_version": "1", "summary": json.dumps(outcome.summary())}
    return save_tensors(save_file, tensors, path, metadata)


def _baseline_codes(
    graph: BipartiteGraph, method: str, clustering: BalancedCoclustering, dim: int
) -> tuple[tuple[np.ndarray, None], tuple[np.ndarray, None]]:
    if clustering.budget is None:
        raise InputError(f"budget must be given for method {method!r}, got None")
    table = TableSize(graph.num_users, graph.num_items, dim, clustering.value_bytes)
    budget = Budget.of(clustering.budget, clustering.budget_measure)
    rows = budget.rows_for(table, secondary_indices=0, secondary_slots=0)
    seed = clustering.random_state or 0
    if method == "random":
        users, items = random_hashing(graph.num_users, graph.num_items, rows, seed)
    else:
        users, items, _ = louvain_at_rows(graph, rows, seed)
    return (users, None), (items, None)


def _rows(table: Table) -> int:
    return table.num_rows if isinstance(table, CodebookEmbedding) else table.num_embeddings


def _parameters(table: Table) -> int:
    return table.parameter_count if isinstance(table, CodebookEmbedding) else table.weight.numel()


def _bytes(table: Table) -> int:
    if isinstance(table, CodebookEmbedding):
        return table.nbytes
    return table.weight.numel() * table.weight.element_size()
