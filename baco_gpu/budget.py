"""Budgets: what a compressed table may cost, and how many codebook rows that buys.

The full table has (num_users + num_items) * embedding_dim parameters. A compressed one has codebook rows *
embedding_dim parameters plus one for each secondary index (the paper's accounting, arXiv 2604.18351); in bytes it is
the codebook as it is stored plus one 4-byte index for every user and item and one for every node of a side with
secondary clusters. Where nothing is clustered, since every user and item gets a row of its own, there are no indices.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from baco_gpu.checks import check_choice, check_integer, check_number
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.precision import BITS, FLOAT, bits_of, row_bytes

MEASURES = ("parameters", "bytes")
INDEX_BYTES = 4

# A result further below its budget has left rows to secondary indices that turned out not to exist.
_SLACK = 0.99
_ATTEMPTS = 12

Solution = TypeVar("Solution")


@dataclass(frozen=True)
class TableSize:
    """The shape of the full table, and how its values are stored; those of a codebook as "float", the same way, or as
    integers of fewer bits and a scale for every row (see `baco_gpu.precision`)."""

    num_users: int
    num_items: int
    embedding_dim: int
    value_bytes: int = 4
    codebook_dtype: str = FLOAT

    @property
    def full_rows(self) -> int:
        return self.num_users + self.num_items

    @property
    def row_bytes(self) -> int:
        """Bytes of a codebook row."""
        return row_bytes(self.embedding_dim, bits_of(self.codebook_dtype), self.value_bytes)

    @property
    def full_parameters(self) -> int:
        return self.full_rows * self.embedding_dim

    @property
    def full_bytes(self) -> int:
        return self.full_parameters * self.value_bytes

    def compressed_parameters(self, rows: int, secondary_indices: int) -> int:
        return rows * self.embedding_dim + secondary_indices

    def compressed_bytes(self, rows: int, secondary_slots: int) -> int:
        return rows * self.row_bytes + (self.full_rows + secondary_slots) * INDEX_BYTES


@dataclass(frozen=True)
class Budget:
    """A number of codebook rows (`rows`), or a share of the full table (`ratio`) in parameters or bytes."""

    rows: int | None = None
    ratio: float | None = None
    measure: str = "parameters"

    @classmethod
    def of(cls, value: object, measure: str = "parameters") -> Budget:
        """A budget as users write it: a float is a ratio in (0, 1], an integer a number of codebook rows.

        Raises
        ------
        InputError
            For anything else.
        """
        check_choice("budget_measure", measure, MEASURES)
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return cls(rows=check_integer("budget in codebook rows", value, minimum=1))
        return cls(ratio=check_number("budget", value, above=0, maximum=1), measure=measure)

    @property
    def is_share_of_bytes(self) -> bool:
        return self.ratio is not None and self.measure == "bytes"

    def buys_own_rows(self, table: TableSize) -> bool:
        """Whether every user and item can have a row of its own, which needs no indices."""
        if self.rows is not None:
            return self.rows >= table.full_rows
        assert self.ratio is not None
        if self.measure == "bytes":
            return table.full_rows * table.row_bytes <= self.ratio * table.full_bytes
        return self.ratio >= 1

    def rows_for(self, table: TableSize, *, secondary_indices: int, secondary_slots: int) -> int:
        """The most codebook rows that meet the budget beside so many secondary indices."""
        if self.rows is not None:
            return self.rows
        assert self.ratio is not None
        if self.measure == "bytes":
            indices = table.compressed_bytes(0, secondary_slots)
            return math.floor(self.ratio * table.full_bytes - indices) // table.row_bytes
        return math.floor(self.ratio * table.full_parameters - secondary_indices) // table.embedding_dim


class Reach(NamedTuple):
    """What solutions of one graph can cost.

    Attributes
    ----------
    fewest, most : int, codebook rows
    indices : int, the most secondary indices there can be
    slots : int, the entries of the arrays that hold them: one for every node of a side with secondary clusters
    """

    fewest: int
    most: int
    indices: int
    slots: int


def widest_integers(budget: Budget, table: TableSize) -> TableSize:
    """The table in the widest integers of which the budget buys every user and item a row, or in the narrowest."""
    for dtype in BITS:
        stored = replace(table, codebook_dtype=dtype)
        if budget.buys_own_rows(stored):
            break
    return stored


def solve_within(
    budget: Budget, table: TableSize, reach: Reach, solve: Callable[[int], tuple[Solution, int, int]]
) -> Solution:
    """Solve for the most rows that meet the budget, whose secondary indices are counted only afterwards.

    The first attempt leaves room for all secondary indices there can be, and so meets the budget; while it wastes more
    than 1% of it, others follow for more rows.

    Parameters
    ----------
    solve : function
        Takes a number of rows; returns a solution, its rows (at most that number) and its secondary indices.

    Raises
    ------
    UnreachableBudgetError
        If the budget buys fewer rows than any solution has, naming what can be reached.
    """

    def affordable(indices: int) -> int:
        return min(budget.rows_for(table, secondary_indices=indices, secondary_slots=reach.slots), reach.most)

    if affordable(0) < reach.fewest:
        raise _unreachable(budget, table, reach)
    best, best_rows = None, -1
    met, exceeded = reach.fewest - 1, affordable(0) + 1
    wanted = max(affordable(reach.indices), reach.fewest)
    for _ in range(_ATTEMPTS):
        solution, rows, indices = solve(wanted)
        limit = affordable(indices)
        if rows > limit:
            exceeded = wanted
        elif rows > best_rows:
            best, best_rows, met = solution, rows, wanted
        else:
            break  # there is nothing between these rows and those that were too many
        if limit * _SLACK <= rows <= limit or exceeded - met <= 1:
            break
        # A near number of rows has about as many secondary indices.
        wanted = limit if met < limit < exceeded else (met + exceeded) // 2
    assert best is not None
    return best


def _unreachable(budget: Budget, table: TableSize, reach: Reach) -> UnreachableBudgetError:
    if budget.rows is not None:
        return UnreachableBudgetError(
            f"budget of {budget.rows} codebook rows is below what this graph can reach: "
            f"{reach.fewest} to {reach.most} rows"
        )
    if budget.measure == "bytes":
        low, high = (
            table.compressed_bytes(rows, reach.slots) / table.full_bytes for rows in (reach.fewest, reach.most)
        )
    else:
        low, high = (
            table.compressed_parameters(rows, 0) / table.full_parameters for rows in (reach.fewest, reach.most)
        )
    low = math.ceil(low * 1e6) / 1e6  # so that the number as shown can be met
    return UnreachableBudgetError(
        f"budget of {budget.ratio:g} of the full table's {budget.measure} is below what this graph can reach: "
        f"{low:g} ({reach.fewest} codebook rows) to {high:g} ({reach.most} rows)"
    )
