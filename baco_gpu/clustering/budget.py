"""Budgets: what a compressed table may cost, and how many codebook rows that buys.

The full table has (num_users + num_items) * embedding_dim parameters. A compressed one has codebook rows *
embedding_dim parameters plus one for each secondary index (the paper's accounting, arXiv 2604.18351); in bytes it is
the codebook at its dtype plus one 4-byte index for every user and item and one for every node of a side with secondary
clusters.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from baco_gpu.checks import check_choice, check_integer, check_number
from baco_gpu.errors import InputError

MEASURES = ("parameters", "bytes")
INDEX_BYTES = 4

# A result this far below its budget has wasted rows on secondary indices that turned out not to exist.
_SLACK = 0.99
_ATTEMPTS = 5

Solution = TypeVar("Solution")


@dataclass(frozen=True)
class TableSize:
    """The shape of the full table, and how its values are stored."""

    num_users: int
    num_items: int
    embedding_dim: int
    value_bytes: int = 4

    @property
    def full_rows(self) -> int:
        return self.num_users + self.num_items

    @property
    def full_parameters(self) -> int:
        return self.full_rows * self.embedding_dim

    @property
    def full_bytes(self) -> int:
        return self.full_parameters * self.value_bytes

    def compressed_parameters(self, rows: int, secondary_indices: int) -> int:
        return rows * self.embedding_dim + secondary_indices

    def compressed_bytes(self, rows: int, secondary_slots: int) -> int:
        return rows * self.embedding_dim * self.value_bytes + (self.full_rows + secondary_slots) * INDEX_BYTES


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

    def rows_for(self, table: TableSize, *, secondary_indices: int, secondary_slots: int) -> int:
        """The most codebook rows that meet the budget beside so many secondary indices."""
        if self.rows is not None:
            return self.rows
        assert self.ratio is not None
        if self.measure == "bytes":
            indices = table.compressed_bytes(0, secondary_slots)
            return int(self.ratio * table.full_bytes - indices) // (table.embedding_dim * table.value_bytes)
        return int(self.ratio * table.full_parameters - secondary_indices) // table.embedding_dim

    def check_reachable(self, rows: int, fewest: int, table: TableSize) -> None:
        """Raise InputError unless `rows`, what the budget buys, is at least `fewest`."""
        if rows >= fewest:
            return
        spent = "" if self.rows is not None else f" (a ratio of {self.ratio:g} of the full table's {self.measure})"
        raise InputError(
            f"budget of {rows} codebook rows{spent} is below what this graph can reach: "
            f"{fewest} to {table.full_rows} rows"
        )


def solve_within(
    budget: Budget,
    table: TableSize,
    secondary_slots: int,
    fewest: int,
    solve: Callable[[int], tuple[Solution, int, int]],
) -> Solution:
    """Solve for the most rows that meet the budget, whose secondary indices are counted only afterwards.

    Parameters
    ----------
    secondary_slots : int
        The most secondary indices there can be.
    fewest : int
        The fewest rows that any solution has.
    solve : function
        Takes a number of rows; returns a solution, its rows (at most that number) and its secondary indices.
    """

    def affordable(indices: int) -> int:
        return budget.rows_for(table, secondary_indices=indices, secondary_slots=secondary_slots)

    lowest, highest = affordable(secondary_slots), affordable(0)
    # Where only a full set of secondary indices breaks the budget, fewer of them may still meet it.
    budget.check_reachable(max(lowest, min(highest, fewest)), fewest, table)
    wanted = max(lowest, fewest)
    best: Solution | None = None
    for _ in range(_ATTEMPTS):
        solution, rows, indices = solve(wanted)
        limit = affordable(indices)
        if rows <= limit:
            best, lowest = solution, wanted
            if rows >= limit * _SLACK or wanted >= min(limit, table.full_rows):
                break
            wanted = limit
        else:
            highest = wanted - 1
            wanted = (lowest + highest) // 2
        if highest < fewest or wanted < fewest:
            break
    if best is None:
        budget.check_reachable(affordable(secondary_slots), fewest, table)
        raise InputError(f"budget cannot be met: {fewest} codebook rows and their secondary indices exceed it")
    return best
