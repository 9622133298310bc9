"""Rows of few bits, in two settings: how they are stored, and what they are while they are trained.

They are stored as integers, as wide as the budget has room for, as product codes or as trellis codes. Until then they
are floats, which training sees rounded by and by, or integers themselves, for tables that are to be small while they
are trained, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from baco_gpu.budget import SIDES, AnyBudget, Budget, SideBudgets, TableSize, widest_integers
from baco_gpu.checks import check_choice
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.clustered import Clustered
from baco_gpu.methods.method import Built, Spec
from baco_gpu.methods.product_plan import ProductPlan, plan_product
from baco_gpu.methods.trellis_plan import TrellisPlan, plan_trellis
from baco_gpu.precision import BITS, FLOAT, bits_of
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.quantized import QuantizedEmbedding

INTEGERS, PRODUCT_CODES, TRELLIS_CODES, FLOATS = "integers", "product codes", "trellis codes", "floats"
CODES = (PRODUCT_CODES, TRELLIS_CODES)
# With fewer bits, rounding at random is noise that costs recall: of matrix factorisation on Beauty, 8 keep all of it,
# 7 keep 99%, 6 keep 94%, and 4 keep 37%.
_TRAINED = tuple(dtype for dtype, bits in BITS.items() if bits >= 6)
_TRAINED_DTYPE = "int16"  # of the same on Gowalla, 16 bits keep 99.5% and 8 bits 97%


@dataclass(frozen=True, kw_only=True)
class FewBits(Clustered):
    """A row of few bits for every user and item.

    Where rows are stored as integers, and are floats until then, co-clusters share them if a budget buys no row of the
    fewest bits for everyone.

    Attributes
    ----------
    stored : {"integers", "product codes", "trellis codes"}
    trained : {"floats", "integers"}
    """

    @property
    def _may_share(self) -> bool:
        return (self.stored, self.trained) == (INTEGERS, FLOATS)

    def heeds(self, parameter: str) -> bool:
        return self._may_share and super().heeds(parameter)

    def check(self, spec: Spec, budget: AnyBudget | None) -> None:
        super().check(spec, budget)
        dtype, alike = spec.codebook_dtype, self.stored == self.trained
        if self.stored in CODES and self.trained == INTEGERS:
            if dtype is not None:
                check_choice("codebook_dtype", dtype, _TRAINED)
        elif not self._may_share and dtype not in (None, FLOAT):
            raise InputError(
                f"codebook_dtype must be {FLOAT!r} for method {self.said}, which stores rows its own way, got {dtype!r}"
            )
        if self.stored == INTEGERS and (alike or dtype is None):
            budget = self.given(budget)
            if not budget.is_share_of_bytes:
                got = _kind_of(budget)
                raise InputError(
                    f"budget must be a share of the bytes for method {self.said} to choose how wide its values are, "
                    f"got {got}" + ("" if alike else " (or give codebook_dtype)")
                )

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        budget, size = self.given(budget), spec.size_for(graph)
        if isinstance(budget, SideBudgets):
            return self._by_side(graph, spec, budget, seed)
        if self.stored in CODES:
            tables = self._plan(budget, size, graph).tables(size, row_bits=self._row_bits(spec))
            return Built.of(tables, clustered=False)
        if self.trained == INTEGERS:
            return Built.of(_integers(budget, size), clustered=False)
        if spec.codebook_dtype is None:
            size = widest_integers(budget, size)
        if not budget.buys_own_rows(size):
            return super().build(graph, replace(spec, codebook_dtype=size.codebook_dtype), budget, seed)
        dim, bits = size.embedding_dim, bits_of(size.codebook_dtype)
        counts = (size.num_users, size.num_items)
        return Built.of([CodebookEmbedding(np.arange(count), dim, bits=bits) for count in counts], clustered=False)

    def _plan(self, budget: Budget, size: TableSize, graph: BipartiteGraph) -> ProductPlan | TrellisPlan:
        if self.stored == PRODUCT_CODES:
            return plan_product(budget, size)
        return plan_trellis(budget, size, graph.item_degrees if size.num_items else None)

    def _row_bits(self, spec: Spec) -> int | None:
        return bits_of(spec.codebook_dtype or _TRAINED_DTYPE) if self.trained == INTEGERS else None

    def _by_side(self, graph: BipartiteGraph, spec: Spec, budget: SideBudgets, seed: int) -> Built:
        """Each table as its own budget buys it: with centroids of its own, or integers of its own width."""
        whole = spec.size_for(graph)
        tables: dict[str, EmbeddingTable] = {}
        left: dict[str, Budget | None] = {}
        for side, part in self.parts(spec, budget).items():
            size = whole.of_side(side)
            if self.stored in CODES:
                tables[side] = self._plan(part, size, graph).table(side, size, row_bits=self._row_bits(spec))
            elif self.trained == INTEGERS:
                tables[side] = _integers(part, size)[SIDES.index(side)]
            else:
                stored = widest_integers(part, size) if spec.codebook_dtype is None else size
                if part.buys_own_rows(stored):
                    own, bits = np.arange(stored.full_rows), bits_of(stored.codebook_dtype)
                    tables[side] = CodebookEmbedding(own, stored.embedding_dim, bits=bits)
                else:
                    left[side], shared = part, stored.codebook_dtype  # the narrowest, on either side
        if not left:
            return Built({side: tables[side] for side in spec.sides}, clustered=False)
        of_shared = SideBudgets(**{**dict.fromkeys(SIDES), **left})
        built = super().build(graph, replace(spec, codebook_dtype=shared), of_shared, seed)
        return built._replace(tables={side: tables.get(side, built.tables[side]) for side in spec.sides})


def _kind_of(budget: AnyBudget) -> str:
    if isinstance(budget, SideBudgets):
        return " and ".join(dict.fromkeys(_kind_of(part) for part in budget.pair if part is not None))
    return f"{budget.rows} rows" if budget.ratio is None else f"a share of the {budget.measure}"


def _integers(budget: Budget, table: TableSize) -> Sequence[EmbeddingTable]:
    """Tables of the widest integers of which the budget buys every user and item a row."""
    stored = widest_integers(budget, table)
    bits = BITS[stored.codebook_dtype]
    if stored.codebook_dtype not in _TRAINED:
        least = replace(table, codebook_dtype=_TRAINED[-1])
        share = least.row_bytes / (table.embedding_dim * table.value_bytes)
        raise UnreachableBudgetError(
            f"rows of {BITS[_TRAINED[-1]]} bits a value are {share:g} of the full table's bytes, above a budget of "
            f"{budget.ratio:g}; fewer bits are too noisy to train with, and method {COMPACT.name!r} stores less in the "
            "end"
        )
    return [QuantizedEmbedding(size, table.embedding_dim, bits=bits) for size in (table.num_users, table.num_items)]


QUANTIZED = FewBits(
    name="quantized",
    order=3,
    family="quantization",
    shared="nobody; co-clusters, ours, where a budget buys no row of 2 bits a value for everyone",
    stored=INTEGERS,
    when="budgets of bytes, where integers of 16 or 8 to 2 bits are to be looked up",
    source="this project",
    fixed={"secondary": "none"},
    by_side=True,
)
LOW_PRECISION = replace(
    QUANTIZED,
    name=f"{QUANTIZED.name}:{INTEGERS}",
    order=4,
    former=("low-precision",),
    shared="nobody",
    trained=INTEGERS,
    when="memory of training counts, too, and a fifth of the bytes or more is there",
    source="ALPT, arXiv 2212.05735",
)
PRODUCT = replace(
    QUANTIZED,
    name="product",
    order=1,
    shared="nobody; pieces of rows are the nearest of centroids that all of them have",
    stored=PRODUCT_CODES,
    when="by default: it keeps most from a twelfth on",
    source="Jégou et al., IEEE TPAMI 33, 2011",
)
COMPACT = replace(
    PRODUCT,
    name=f"{PRODUCT.name}:{INTEGERS}",
    order=2,
    former=("compact",),
    trained=INTEGERS,
    when="as product, where memory of training counts, too",
    source="this project",
)
