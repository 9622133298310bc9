"""Compressing by a method: from the training part to a pair of tables, with what they cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import clone

from baco_gpu.baselines.method import (
    AFFINITY,
    BUDGET,
    COMPACT,
    FULL,
    LOW_PRECISION,
    NARROW,
    PRODUCT,
    QUANTIZED,
    RESIDUAL,
    Method,
)
from baco_gpu.baselines.registry import find_method
from baco_gpu.budget import Budget, TableSize, widest_integers
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.experiment.affinity import mix_coclusters
from baco_gpu.experiment.product_plan import plan_product
from baco_gpu.experiment.regrouping import Regrouping
from baco_gpu.experiment.residual_plan import NOBODY, budget_beside, plan_residuals
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.models.build import full_table
from baco_gpu.models.recommender import Table
from baco_gpu.precision import BITS, FLOAT, bits_of
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.full import size_of
from baco_gpu.tables.quantized import LowPrecisionEmbedding
from baco_gpu.tables.weighted import WeightedCodebookEmbedding
from baco_gpu.training.callbacks import Callback

# With fewer bits, rounding at random is noise that costs recall: of matrix factorisation on Beauty, 8 keep all of it,
# 7 keep 99%, 6 keep 94%, and 4 keep 37%.
_TRAINED = tuple(dtype for dtype, bits in BITS.items() if bits >= 6)
_COMPACT_DTYPE = "int16"  # of the same on Gowalla, 16 bits keep 99.5% and 8 bits 97%


@dataclass(frozen=True)
class Compression:
    """A pair of tables, what they cost, and how long their assignment took."""

    method: str
    user_table: Table
    item_table: Table
    full_parameters: int  # of the full table
    full_bytes: int
    seconds: float = 0.0
    result: CoclusteringResult | None = None
    callbacks: tuple[Callback, ...] = ()  # what the method does between epochs

    @property
    def rows(self) -> int:
        return size_of(self.user_table, self.item_table).rows

    @property
    def parameters(self) -> int:
        """Trained parameters, plus one for each secondary index and each weight of a row (arXiv 2604.18351).

        And one for every 4 bytes of product codes.
        """
        return size_of(self.user_table, self.item_table).parameters

    @property
    def bytes(self) -> int:
        """Tables or codebooks at their dtype, and index arrays."""
        return size_of(self.user_table, self.item_table).nbytes

    @property
    def common(self) -> list[str]:
        """Names of the parameters that are those of both tables."""
        users = dict(self.user_table.named_parameters())
        return [name for name, parameter in self.item_table.named_parameters() if users.get(name) is parameter]

    @property
    def shared(self) -> bool:
        """Whether one codebook is that of both tables."""
        return "codebook" in self.common


def check_budget(method: str, clustering: BalancedCoclustering) -> None:
    """Raise what `compress` would for a budget of the wrong kind, or for rows stored twice, before there are data."""
    table = find_method(method).table
    if table == COMPACT and clustering.codebook_dtype is not None:
        check_choice("codebook_dtype", clustering.codebook_dtype, _TRAINED)
    if table in (PRODUCT, LOW_PRECISION) and clustering.codebook_dtype not in (None, FLOAT):
        raise InputError(
            f"codebook_dtype must be {FLOAT!r} for method {method!r}, which stores rows its own way, "
            f"got {clustering.codebook_dtype!r}"
        )
    if table != LOW_PRECISION and (table != QUANTIZED or clustering.codebook_dtype is not None):
        return
    budget = _budget_of(clustering, method)
    if not budget.is_share_of_bytes:
        got = f"{budget.rows} rows" if budget.ratio is None else f"a share of the {budget.measure}"
        raise InputError(
            f"budget must be a share of the bytes for method {method!r} to choose how wide its values are, got {got}"
            + ("" if table == LOW_PRECISION else " (or give codebook_dtype)")
        )


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
        Says the budget, the embedding dimension, how codebooks are stored and the seed for every method, and does the
        work for "codebook".
    result : CoclusteringResult, optional
        A finished clustering to use instead ("codebook" only).

    Raises
    ------
    InputError
        If the method is unknown, the budget cannot be met, or `result` belongs to another graph.
    MissingExtraError
        If the method needs a package that is not installed.
    """
    check_budget(method, clustering)
    chosen = find_method(method)
    chosen.check_installed()
    table = TableSize(
        split.num_users,
        split.num_items,
        check_integer("embedding_dim", clustering.embedding_dim, minimum=1),
        clustering.value_bytes,
        clustering.codebook_dtype or FLOAT,
    )
    if result is not None and chosen.name != "codebook":
        raise InputError(f"a finished clustering serves method 'codebook' alone, got method {method!r}")
    if chosen.table == QUANTIZED and clustering.codebook_dtype is None:
        table = widest_integers(_budget_of(clustering, method), table)
        clustering = clone(clustering).set_params(codebook_dtype=table.codebook_dtype)
    full = table.full_parameters, table.full_bytes
    own = _own_rows(chosen, clustering, table)
    if own is not None:
        return Compression(method, own[0], own[1], *full)
    graph = BipartiteGraph.from_interactions(split.train)
    if result is not None and result.graph_checksum != graph.checksum():
        raise InputError(
            "the clustering was made from another graph than this training part: "
            f"expected checksum {graph.checksum()[:12]}..., got {result.graph_checksum[:12]}... "
            "(compress with the same split and seed)"
        )
    started = time.perf_counter()
    (user_table, item_table), result = _shared_rows(graph, chosen, clustering, table, result, progress)
    seconds = time.perf_counter() - started
    callbacks = () if chosen.regroup is None else (Regrouping(chosen.regroup, chosen.regroup_when, graph),)
    return Compression(method, user_table, item_table, *full, seconds, result, callbacks)


def _own_rows(chosen: Method, clustering: BalancedCoclustering, table: TableSize) -> Sequence[Table] | None:
    """The tables of users and of items where every id has a row of its own, stored one way or another; else None."""
    sizes = table.num_users, table.num_items
    if chosen.size == FULL:
        return [full_table(size, table.embedding_dim) for size in sizes]
    if chosen.table not in (NARROW, PRODUCT, COMPACT, LOW_PRECISION, QUANTIZED):
        return None
    budget = _budget_of(clustering, chosen.name)
    if chosen.table == NARROW:
        width = _width_within(budget, table)
        return [full_table(size, width) for size in sizes]
    if chosen.table in (PRODUCT, COMPACT):
        row_bits = bits_of(clustering.codebook_dtype or _COMPACT_DTYPE) if chosen.table == COMPACT else None
        return plan_product(budget, table).tables(table, row_bits=row_bits)
    if chosen.table == LOW_PRECISION:
        return _low_precision(budget, table)
    if not budget.buys_own_rows(table):
        return None
    bits = bits_of(table.codebook_dtype)
    return [CodebookEmbedding(np.arange(size), table.embedding_dim, bits=bits) for size in sizes]


def _shared_rows(
    graph: BipartiteGraph,
    chosen: Method,
    clustering: BalancedCoclustering,
    table: TableSize,
    result: CoclusteringResult | None,
    progress: Progress,
) -> tuple[Sequence[Table], CoclusteringResult | None]:
    """The tables of users and of items where ids share rows, and the clustering that says which, where it is ours."""
    dim, bits = table.embedding_dim, bits_of(table.codebook_dtype)
    residuals = NOBODY
    if chosen.table in (RESIDUAL, AFFINITY):
        whole = _budget_of(clustering, chosen.name)
        residuals = plan_residuals(graph, table, whole)
        left = budget_beside(residuals, table, whole)
        clustering = clone(clustering).set_params(budget=left.ratio if left.rows is None else left.rows)
    if chosen.table == AFFINITY:
        estimator = clone(clustering).set_params(**chosen.parameters or {})
        mixture = mix_coclusters(graph, estimator, table, _budget_of(estimator, chosen.name), progress)
        return mixture.tables(residuals, dim, bits=bits), mixture.result
    if chosen.parameters is None:
        budget = _budget_of(clustering, chosen.name) if chosen.size == BUDGET else None
        sides = chosen.assign(graph, budget, table, clustering.random_state or 0)
    else:
        if result is None:
            estimator = clone(clustering).set_params(**chosen.parameters)
            result = estimator.fit(graph, progress=progress).result_
        sides = result.users, result.items
    if chosen.shares is not None:
        return [
            WeightedCodebookEmbedding(side.labels, dim, side.secondary, shares=chosen.shares, bits=bits)
            for side in sides
        ], result
    shared = result is not None and result.shared
    return residuals.tables(sides, dim, bits=bits, shared=shared), result


def _budget_of(clustering: BalancedCoclustering, method: str) -> Budget:
    if clustering.budget is None:
        raise InputError(f"budget must be given for method {method!r}, got None")
    return Budget.of(clustering.budget, clustering.budget_measure)


def _width_within(budget: Budget, table: TableSize) -> int:
    """The most dimensions that a row of every id may have; a number of rows stands for its parameters."""
    share = budget.ratio if budget.ratio is not None else (budget.rows or 0) / table.full_rows
    # The excess keeps the rounding of a share such as 3/64 from taking a dimension.
    width = math.floor(share * table.embedding_dim + 1e-9)
    if width < 1:
        raise UnreachableBudgetError(
            f"a table of one dimension is {1 / table.embedding_dim:g} of the full one, above a budget of {share:g}"
        )
    return width


def _low_precision(budget: Budget, table: TableSize) -> list[LowPrecisionEmbedding]:
    """Tables of the widest integers of which the budget buys every user and item a row."""
    stored = widest_integers(budget, table)
    bits = BITS[stored.codebook_dtype]
    if stored.codebook_dtype not in _TRAINED:
        least = replace(table, codebook_dtype=_TRAINED[-1])
        share = least.row_bytes / (table.embedding_dim * table.value_bytes)
        raise UnreachableBudgetError(
            f"rows of {BITS[_TRAINED[-1]]} bits a value are {share:g} of the full table's bytes, above a budget of "
            f"{budget.ratio:g}; fewer bits are too noisy to train with, and method 'compact' stores less in the end"
        )
    return [LowPrecisionEmbedding(size, table.embedding_dim, bits=bits) for size in (table.num_users, table.num_items)]
