"""Compressing by a method: from the training part to a pair of tables, with what they cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sklearn.base import clone

from baco_gpu.baselines.method import FULL, Method
from baco_gpu.baselines.registry import find_method
from baco_gpu.baselines.sides import Sides
from baco_gpu.checks import check_integer
from baco_gpu.clustering.budget import Budget, TableSize
from baco_gpu.clustering.estimator import BalancedCoclustering
from baco_gpu.clustering.result import CoclusteringResult
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.models.build import full_table
from baco_gpu.models.recommender import Table
from baco_gpu.progress import Progress, silent


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
    method : str
        A name of `baco_gpu.baselines.registry`: "codebook" is ours, "full" compresses nothing.
    clustering : BalancedCoclustering
        Says the budget, the embedding dimension and the seed for every method, and does the work for "codebook".
    result : CoclusteringResult, optional
        A finished clustering to use instead ("codebook" only).

    Raises
    ------
    InputError
        If the method is unknown, the budget cannot be met, or `result` belongs to another graph.
    MissingExtraError
        If the method needs a package that is not installed.
    """
    chosen = find_method(method)
    chosen.check_installed()
    dim = check_integer("embedding_dim", clustering.embedding_dim, minimum=1)
    if result is not None and chosen.name != "codebook":
        raise InputError(f"a finished clustering serves method 'codebook' alone, got method {method!r}")
    if chosen.size == FULL:
        return Compression(method, full_table(split.num_users, dim), full_table(split.num_items, dim), 0.0)

    graph = BipartiteGraph.from_interactions(split.train)
    if result is not None and result.graph_checksum != graph.checksum():
        raise InputError(
            "the clustering was made from another graph than this training part: "
            f"expected checksum {graph.checksum()[:12]}..., got {result.graph_checksum[:12]}..."
        )
    started = time.perf_counter()
    if chosen.parameters is not None:
        if result is None:
            estimator = clone(clustering).set_params(**chosen.parameters)
            result = estimator.fit(graph, progress=progress).result_
        sides = result.users, result.items
    else:
        sides = _assign(chosen, graph, clustering, dim)
    seconds = time.perf_counter() - started
    tables = [CodebookEmbedding(side.labels, dim, side.secondary) for side in sides]
    return Compression(method, tables[0], tables[1], seconds, result)


def _assign(method: Method, graph: BipartiteGraph, clustering: BalancedCoclustering, dim: int) -> Sides:
    if clustering.budget is None:
        raise InputError(f"budget must be given for method {method.name!r}, got None")
    table = TableSize(graph.num_users, graph.num_items, dim, clustering.value_bytes)
    budget = Budget.of(clustering.budget, clustering.budget_measure)
    return method.assign(graph, budget, table, clustering.random_state or 0)


def _rows(table: Table) -> int:
    return table.num_rows if isinstance(table, CodebookEmbedding) else table.num_embeddings


def _parameters(table: Table) -> int:
    return table.parameter_count if isinstance(table, CodebookEmbedding) else table.weight.numel()


def _bytes(table: Table) -> int:
    if isinstance(table, CodebookEmbedding):
        return table.nbytes
    return table.weight.numel() * table.weight.element_size()
