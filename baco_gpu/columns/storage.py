"""Ways to store a table, what each costs, and how far it is from the rows that were trained.

The error is the squared distance of a looked-up row from the trained one, summed over what an event looks up: ids
count as often as they are seen, so that rows which hardly anybody reads are the first to be shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.budget import Budget, TableSize
from baco_gpu.columns.event_log import Column
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.product_plan import plan_product
from baco_gpu.methods.trellis_plan import SMALL, TrellisPlan, plan_trellis
from baco_gpu.ops.product_quantization import fit_centroids, nearest_codes, rows_of
from baco_gpu.ops.quantization import check_storable, rounded_rows
from baco_gpu.precision import BITS, ProductFormat, row_bytes
from baco_gpu.tables.assignments import mean_rows
from baco_gpu.tables.product import ProductCodebookEmbedding
from baco_gpu.tables.trellis import TrellisEmbedding

FULL = "full"

_SAMPLE = 1 << 13  # lookups by which the error of product codes is told, to about a hundredth of it

_LEAST_ROWS = 1 / 100  # of a table's: fewer shared rows are hardly better than one


class CodedRows(NamedTuple):
    """A kind of table that stores its rows as codes, and its options."""

    kind: type[ProductCodebookEmbedding]
    options: dict[str, Any]


class StorageChoice(NamedTuple):
    """One way to store a table.

    Attributes
    ----------
    method : str
        "full", or that of a name in the registry of methods.
    rows, cost : int
        The cost is in the measure of the budget: bytes, or parameters.
    error : float
    what : labels, CodedRows, bits or None
    """

    method: str
    rows: int
    cost: int
    error: float
    what: Any = None


@dataclass(frozen=True, eq=False)
class Lookups:
    """A trained table, and how its column looks rows up.

    Attributes
    ----------
    column : Column
    read : function
        The table as it is stored, of shape (ids, dim) on the CPU, which is held no longer than it is looked at.
    dim : int
    measure : {"bytes", "parameters"}
    value_bytes : int
        As the model stores a value.
    seed : int
    """

    column: Column
    read: Callable[[], Tensor]
    dim: int
    measure: str
    value_bytes: int
    seed: int

    @classmethod
    def of(cls, module: nn.Embedding | nn.EmbeddingBag, column: Column, measure: str, seed: int) -> Lookups:
        weight = module.weight.detach().cpu()
        return cls(column, lambda: weight, module.embedding_dim, measure, module.weight.element_size(), seed)

    @property
    def size(self) -> TableSize:
        return TableSize(self.column.size, 0, self.dim, self.value_bytes)

    @property
    def full_cost(self) -> int:
        return self.size.full_bytes if self.measure == "bytes" else self.size.full_parameters

    @property
    def per_event(self) -> float:
        """How many rows an event looks up."""
        return len(self.column.ids) / self.column.num_events

    @property
    def spread(self) -> float:
        """The error of one row for all ids, their mean."""
        return self.error_of(np.zeros(self.column.size, np.int64))

    def error_of(self, labels: np.ndarray) -> float:
        """What is left where ids of a label share the mean of their rows."""
        rows, weight = torch.as_tensor(labels, dtype=torch.int64), self.read()
        means = mean_rows(weight, rows, int(labels.max()) + 1, self.column.counts)
        error = 0.0
        counts = torch.as_tensor(self.column.counts, dtype=torch.float64)
        for ids in torch.arange(len(rows)).split(1 << 16):  # so that no second table of floats is there
            error += float(counts[ids] @ (weight[ids] - means[rows[ids]]).square().sum(dim=1))
        return error / self.column.num_events

    def drawn(self) -> np.ndarray:
        """Rows that are looked up, as often as each is, by their numbers."""
        shares = self.column.counts / len(self.column.ids)
        return np.random.default_rng(self.seed).choice(len(shares), _SAMPLE, p=shares)

    def full(self) -> StorageChoice:
        return StorageChoice(FULL, self.column.size, self.full_cost, 0.0)


class Storage(Protocol):
    """A way to store tables at a cost."""

    name: ClassVar[str]

    def costs(self, share: float) -> list[float]:
        """What to try, around what a table would have if all had the same share."""

    def at(self, cost: int) -> StorageChoice | None:
        """The best that costs at most so much; None where that buys nothing."""


@dataclass(frozen=True, eq=False)
class CoclusterRows:
    """Co-clusters of the ids and of those that they are seen with share rows."""

    lookups: Lookups
    graph: BipartiteGraph
    name: ClassVar[str] = "baco-multilevel"

    def costs(self, share: float) -> list[float]:
        table = self.lookups
        indices = table.size.compressed_bytes(0, 0) if table.measure == "bytes" else 0
        least = _LEAST_ROWS * table.full_cost
        left = max(share - indices, 3 * least)
        return [indices + rows for rows in (least, left, 3 * left)]

    def at(self, cost: int) -> StorageChoice | None:
        size, table = self.lookups.size, self.lookups
        budget = Budget(ratio=cost / table.full_cost, measure=table.measure)
        rows = budget.rows_for(size, secondary_indices=0, secondary_slots=0)
        if not 1 <= rows < size.num_users:
            return None
        clustering = BalancedCoclustering({"users": rows, "items": None}, secondary="none", random_state=table.seed)
        labels = np.unique(clustering.fit(self.graph).row_labels_, return_inverse=True)[1]
        found = int(labels.max()) + 1
        of_bytes = table.measure == "bytes"
        paid = size.compressed_bytes(found, 0) if of_bytes else size.compressed_parameters(found, 0)
        return StorageChoice(self.name, found, paid, table.error_of(labels), labels)


@dataclass(eq=False)
class ProductCodes:
    """Every id has a row, of pieces that are the nearest of a few.

    Finding centroids takes a while. It is done for one plan, and what that errs tells of the others by how
    `ProductFormat.error` has them differ.
    """

    lookups: Lookups
    name: ClassVar[str] = "product"
    _measured: float | None = None  # in units of `ProductFormat.error`

    def costs(self, share: float) -> list[float]:
        return [part * share for part in (1.0, 0.25, 0.35, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0, 2.8, 4.0)]

    def at(self, cost: int) -> StorageChoice | None:
        size, table = self.lookups.size, self.lookups
        try:
            plan = plan_product(Budget(ratio=min(cost / table.full_cost, 1.0), measure=table.measure), size)
        except UnreachableBudgetError:
            return None
        form = plan.form(size)
        if self._measured is None:
            self._measured = self._error(form) / form.error
        paid = plan.bytes(size) if table.measure == "bytes" else plan.parameters(size)
        codes = CodedRows(ProductCodebookEmbedding, plan._asdict())
        return StorageChoice(self.name, table.column.size, paid, self._measured * form.error, codes)

    @torch.no_grad()
    def _error(self, form: ProductFormat) -> float:
        table, weight = self.lookups, self.lookups.read()
        rows = weight[table.drawn()].float()
        centroids = fit_centroids(weight, form, table.seed)
        coded = rows_of(nearest_codes(rows, centroids, form), centroids, form)
        return float((rows - coded).double().square().sum(dim=1).mean()) * table.per_event


@dataclass(eq=False)
class TrellisCodes:
    """Every id has a row, whose values are read from windows of its bits: of more bits where it is looked up more.

    Below a twelfth of the table, where product codes keep less. Encoding takes a while: rows that are drawn are encoded
    for one plan, and what that errs tells of the others by how `TrellisPlan.error` has them differ.
    """

    lookups: Lookups
    name: ClassVar[str] = "trellis"
    _measured: float | None = None  # in units of `TrellisPlan.error`

    def costs(self, share: float) -> list[float]:
        tried = (part * share for part in (1.0, 0.25, 0.35, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0))
        return [cost for cost in tried if cost < SMALL * self.lookups.full_cost]

    def at(self, cost: int) -> StorageChoice | None:
        table = self.lookups
        if cost >= SMALL * table.full_cost:
            return None
        # As a table of items: those have degrees.
        size = TableSize(0, table.column.size, table.dim, table.value_bytes)
        budget = Budget(ratio=min(cost / table.full_cost, 1.0), measure=table.measure)
        try:
            plan = plan_trellis(budget, size, table.column.counts)
        except UnreachableBudgetError:
            return None
        if self._measured is None:
            self._measured = self._error(plan) / plan.error(size)
        paid = plan.bytes(size) if table.measure == "bytes" else plan.parameters(size)
        error = self._measured * plan.error(size)
        return StorageChoice(self.name, table.column.size, paid, error, self._codes(plan))

    @staticmethod
    def _codes(plan: TrellisPlan) -> CodedRows:
        options = {"widths": plan.widths[1], "grades": plan.grades[1].of_rows, "state_bits": plan.state_bits}
        return CodedRows(TrellisEmbedding, options)

    @torch.no_grad()
    def _error(self, plan: TrellisPlan) -> float:
        table, drawn = self.lookups, self.lookups.drawn()
        rows, options = table.read()[drawn].float(), self._codes(plan).options
        if options["grades"] is not None:
            options["grades"] = options["grades"][drawn]
        coded = TrellisEmbedding.from_pretrained(rows, np.arange(len(drawn)), seed=table.seed, **options)
        return float((rows - coded(torch.arange(len(drawn)))).double().square().sum(dim=1).mean()) * table.per_event


@dataclass(eq=False)
class FewBitRows:
    """Every id has a row, of integers of few bits and a scale."""

    lookups: Lookups
    name: ClassVar[str] = "quantized"

    def costs(self, share: float) -> list[float]:
        size = self.lookups.size
        return [self._cost(size, bits) for bits in BITS.values()] if self.lookups.measure == "bytes" else []

    def at(self, cost: int) -> StorageChoice | None:
        table = self.lookups
        bits = next((bits for bits in BITS.values() if self._cost(table.size, bits) <= cost), None)
        if bits is None or table.measure != "bytes":
            return None
        rows = table.read()[table.drawn()].float()
        try:
            check_storable(rows, bits)
        except InputError:
            return None
        error = float((rows - rounded_rows(rows, bits)).double().square().sum(dim=1).mean()) * table.per_event
        return StorageChoice(self.name, table.column.size, self._cost(table.size, bits), error, bits)

    @staticmethod
    def _cost(size: TableSize, bits: int) -> int:
        return size.full_rows * row_bytes(size.embedding_dim, bits, size.value_bytes)


def build_table(stored: StorageChoice, old: nn.Embedding | nn.EmbeddingBag, seed: int) -> Any:
    """What `compress_module` takes for it: labels, or a table that has taken the trained rows."""
    if not isinstance(stored.what, CodedRows):
        return stored.what
    kind, options = stored.what
    return kind.from_pretrained(old, np.arange(old.num_embeddings), seed=seed, **options)
