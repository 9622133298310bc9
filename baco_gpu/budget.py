"""Budgets: what a compressed table may cost, and how many codebook rows that buys.

The full table has (num_users + num_items) * embedding_dim parameters. A compressed one has codebook rows *
embedding_dim parameters plus one for each secondary index (the paper's accounting, arXiv 2604.18351); in bytes it is
the codebook as it is stored plus one 4-byte index for every user and item and one for every node of a side with
secondary clusters. Where nothing is clustered, since every user and item gets a row of its own, there are no indices.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from baco_gpu.checks import check_choice, check_integer, check_number, shown
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.precision import BITS, FLOAT, bits_of, row_bytes

MEASURES = ("parameters", "bytes")
SIDES = ("users", "items")
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

    def of_side(self, side: str) -> TableSize:
        """The table of "users", or of "items", alone."""
        return replace(self, num_items=0) if side == "users" else replace(self, num_users=0)


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


@dataclass(frozen=True)
class SideBudgets:
    """A budget of the users' table and one of the items'; None for a side whose rows are as they come."""

    users: Budget | None
    items: Budget | None

    @property
    def pair(self) -> tuple[Budget | None, Budget | None]:
        return self.users, self.items

    @property
    def is_share_of_bytes(self) -> bool:
        return all(budget is None or budget.is_share_of_bytes for budget in self.pair)


AnyBudget = Budget | SideBudgets


def budget_of(value: object, measure: str = "parameters") -> AnyBudget:
    """A budget as users write it: a number as of `Budget.of`, or one each for "users" and "items", of their own table.

    None leaves the rows of a side open, where the other one has a number.

    Raises
    ------
    InputError
        For anything else.
    """
    if not isinstance(value, Mapping):
        return Budget.of(value, measure)
    if set(value) != set(SIDES) or all(part is None for part in value.values()):
        raise InputError(f"budget by side must have a number for 'users' and one for 'items', got {shown(value)}")
    users, items = (None if value[side] is None else _of_side(side, value[side], measure) for side in SIDES)
    return SideBudgets(users, items)


def _of_side(side: str, value: object, measure: str) -> Budget:
    try:
        return Budget.of(value, measure)
    except InputError as error:
        raise InputError(f"budget of {side}: {error}") from error


def as_written(budget: AnyBudget | None) -> Any:
    """A budget as `budget_of` takes it, beside its measure."""
    if budget is None:
        return None
    if isinstance(budget, SideBudgets):
        return {side: as_written(part) for side, part in zip(SIDES, budget.pair, strict=True)}
    return budget.ratio if budget.rows is None else budget.rows


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

    def solve_one(wanted: Sequence[int]) -> tuple[Solution, Sequence[int], Sequence[int]]:
        solution, rows, indices = solve(wanted[0])
        return solution, (rows,), (indices,)

    return _solve((_Account(budget, table, reach, ""),), solve_one)


def solve_within_sides(
    budgets: SideBudgets,
    table: TableSize,
    reaches: tuple[Reach, Reach],
    solve: Callable[[tuple[int | None, int | None]], tuple[Solution, tuple[int, int], tuple[int, int]]],
) -> Solution:
    """The same for a budget of each side's own table; rows and secondary indices come in pairs.

    A side without a budget has None for its number of rows.
    """
    places = [place for place, budget in enumerate(budgets.pair) if budget is not None]
    accounts = [
        _Account(budget, table.of_side(side), reach, f" of {side}")
        for side, budget, reach in zip(SIDES, budgets.pair, reaches, strict=True)
        if budget is not None
    ]

    def solve_sides(wanted: Sequence[int]) -> tuple[Solution, Sequence[int], Sequence[int]]:
        by_place = dict(zip(places, wanted, strict=True))
        solution, rows, indices = solve((by_place.get(0), by_place.get(1)))
        return solution, [rows[place] for place in places], [indices[place] for place in places]

    return _solve(accounts, solve_sides)


class _Account(NamedTuple):
    """A budget, the table that it is of, what can be reached there, and what a message calls it."""

    budget: Budget
    table: TableSize
    reach: Reach
    whose: str

    def affordable(self, indices: int) -> int:
        rows = self.budget.rows_for(self.table, secondary_indices=indices, secondary_slots=self.reach.slots)
        return min(rows, self.reach.most)


def _solve(
    accounts: Sequence[_Account],
    solve: Callable[[Sequence[int]], tuple[Solution, Sequence[int], Sequence[int]]],
) -> Solution:
    """The search of `solve_within`, in as many numbers of rows as there are accounts."""
    for account in accounts:
        if account.affordable(0) < account.reach.fewest:
            raise _unreachable(account)
    best, best_rows = None, -1
    met = [account.reach.fewest - 1 for account in accounts]
    exceeded = [account.affordable(0) + 1 for account in accounts]
    wanted = [max(account.affordable(account.reach.indices), account.reach.fewest) for account in accounts]
    for _ in range(_ATTEMPTS):
        solution, rows, indices = solve(wanted)
        limits = [account.affordable(count) for account, count in zip(accounts, indices, strict=True)]
        over = [count > limit for count, limit in zip(rows, limits, strict=True)]
        if any(over):
            exceeded = [now if is_over else top for now, is_over, top in zip(wanted, over, exceeded, strict=True)]
        elif sum(rows) > best_rows:
            best, best_rows, met = solution, sum(rows), wanted
        else:
            break  # there is nothing between these rows and those that were too many
        ranges = list(zip(rows, limits, met, exceeded, strict=True))
        settled = [limit * _SLACK <= count <= limit or top - low <= 1 for count, limit, low, top in ranges]
        if all(settled):
            break
        # A near number of rows has about as many secondary indices.
        nearer = [limit if low < limit < top else (low + top) // 2 for _, limit, low, top in ranges]
        wanted = [now if done else new for now, new, done in zip(wanted, nearer, settled, strict=True)]
    assert best is not None
    return best


def _unreachable(account: _Account) -> UnreachableBudgetError:
    budget, table, reach, whose = account
    if budget.rows is not None:
        return UnreachableBudgetError(
            f"budget{whose} of {budget.rows} codebook rows is below what this graph can reach: "
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
        f"budget{whose} of {budget.ratio:g} of the full table's {budget.measure} is below what this graph can reach: "
        f"{low:g} ({reach.fewest} codebook rows) to {high:g} ({reach.most} rows)"
    )
