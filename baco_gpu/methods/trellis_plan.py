"""Trellis codes at a budget: how many bytes a row of each grade has, and which ids are of which."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.budget import INDEX_BYTES, SIDES, AnyBudget, Budget, SideBudgets, TableSize
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.precision import GRADE_BLOCK, GRADES
from baco_gpu.tables.trellis import STATES, TrellisEmbedding

ENOUGH_BITS = 4  # of a row, a value
# What normally distributed values err, as a multiple of the least that their bits allow; by the bits of a state.
_ERROR = {8: 1.44, 9: 1.4, 10: 1.37}
_ROUNDS = 50


# Shares of the full tables below which trellis codes keep more than product codes do.
SMALL = 1 / 12


def is_small(budget: AnyBudget | None, table: TableSize | None = None) -> bool:
    """Whether trellis codes are what keeps most within a budget, or within that of either side.

    A number of rows is a share of those of the full table; where this is not known, it is none.
    """
    if budget is None:
        return False
    if isinstance(budget, SideBudgets):
        return all(is_small(part, table) for part in budget.pair if part is not None)
    if budget.ratio is not None:
        return budget.ratio < SMALL
    return table is not None and budget.rows is not None and budget.rows < SMALL * table.full_rows


class Grades(NamedTuple):
    """Which of the rows of a side have how many bytes.

    Attributes
    ----------
    of_rows : int array of shape (rows,), or None where there is one grade
    sizes : int array of shape (grades,), how many rows are of each
    counts : float array of shape (grades,), what the error of such a row counts
    """

    of_rows: np.ndarray | None
    sizes: np.ndarray
    counts: np.ndarray

    @classmethod
    def alike(cls, rows: int) -> Grades:
        """All rows of one grade, which count one together."""
        return cls(None, np.array([rows]), np.array([1 / max(rows, 1)]))

    @classmethod
    def of(cls, degrees: np.ndarray) -> Grades:
        """Bands of degrees, so that their logarithms differ least within one (Lloyd).

        A row counts as often as it is used. The error of a value falls to a quarter by a bit, so that a row of four
        times the degree is worth one more.
        """
        used = np.maximum(degrees, 1)
        logs = np.log2(used)
        centers = np.linspace(logs.min(), logs.max(), GRADES + 2)[1:-1]
        for _ in range(_ROUNDS):
            bands = np.searchsorted((centers[1:] + centers[:-1]) / 2, logs)
            sizes = np.bincount(bands, minlength=GRADES)
            centers = np.where(sizes > 0, np.bincount(bands, logs, GRADES) / np.maximum(sizes, 1), centers)
        found, of_rows = np.unique(bands, return_inverse=True)
        sizes = np.bincount(of_rows, minlength=len(found))
        return cls(of_rows, sizes, np.bincount(of_rows, used, len(found)) / sizes / used.sum())


class TrellisPlan(NamedTuple):
    """Grades of users and of items, the bytes of a row of each, and bits of a state."""

    grades: tuple[Grades, Grades]
    widths: tuple[tuple[int, ...], tuple[int, ...]]
    state_bits: int

    def parameters(self, table: TableSize) -> int:
        """Values, means and spreads, and one for every 4 bytes of all else, as for an index."""
        return self._floats(table) + sum(-(-nbytes // INDEX_BYTES) for nbytes in self._bytes(table))

    def bytes(self, table: TableSize) -> int:
        """Codes, the bits of values, the places of rows of several grades, and floats."""
        return self._floats(table) * table.value_bytes + sum(self._bytes(table))

    def error(self, table: TableSize) -> float:
        """About what is left of the squares of rows, as they count, and of both sides."""
        left = sum(
            float((grades.sizes * grades.counts) @ 4.0 ** (-8 * np.array(widths) / table.embedding_dim))
            for grades, widths in self._sides()
        )
        return _ERROR[self.state_bits] * left

    def tables(self, table: TableSize, **options: Any) -> tuple[TrellisEmbedding, TrellisEmbedding]:
        """Tables of users and items, of the same values, with these options of `CodebookEmbedding`."""
        users, items = (self.table(side, table, **options) for side in SIDES)
        items.centroids = users.centroids
        return users, items

    def table(self, side: str, table: TableSize, **options: Any) -> TrellisEmbedding:
        """The table of users or of items, of values of its own."""
        place = SIDES.index(side)
        grades, widths = self.grades[place], self.widths[place]
        told: dict[str, Any] = {"widths": widths, "grades": grades.of_rows, "state_bits": self.state_bits}
        return TrellisEmbedding(np.arange(int(grades.sizes.sum())), table.embedding_dim, **told, **options)

    def _sides(self) -> list[tuple[Grades, tuple[int, ...]]]:
        """Of those that have rows."""
        return [pair for pair in zip(self.grades, self.widths, strict=True) if pair[0].sizes.sum()]

    def _floats(self, table: TableSize) -> int:
        return (1 << self.state_bits) + 2 * table.embedding_dim * sum(len(widths) for _, widths in self._sides())

    def _bytes(self, table: TableSize) -> list[int]:
        found = []
        for grades, widths in self._sides():
            nbytes = 2 + int(grades.sizes @ np.array(widths)) + len(widths) * table.embedding_dim
            if len(widths) > 1:
                rows = int(grades.sizes.sum())
                nbytes += rows + 4 * len(widths) * -(-rows // GRADE_BLOCK)
            found.append(nbytes)
        return found


def degree_array(degrees: Any, items: int) -> np.ndarray:
    """Degrees as an array; InputError unless they are integers of at least zero, one an item."""
    found = np.asarray(degrees)
    if found.shape != (items,) or found.dtype.kind not in "iu" or (items and found.min() < 0):
        raise InputError(
            f"item_degrees must be {items} integers of at least 0, got {found.dtype} of shape {found.shape}"
        )
    return found


def plan_trellis(budget: Budget, table: TableSize, degrees: np.ndarray | None = None) -> TrellisPlan:
    """The plan that the budget buys whose rows err least, as they count.

    Users count alike, and items as their degrees, where these are known: several grades of items are taken where this
    is worth their places. Bytes go where most error is left, one a row.

    Parameters
    ----------
    degrees : int array of shape (num_items,), optional

    Raises
    ------
    UnreachableBudgetError
        If it does not buy a byte for every row.
    """
    if budget.rows is not None:
        most: float = budget.rows * table.embedding_dim
    else:
        assert budget.ratio is not None
        most = budget.ratio * (table.full_bytes if budget.is_share_of_bytes else table.full_parameters)

    def cost(plan: TrellisPlan) -> int:
        return plan.bytes(table) if budget.is_share_of_bytes else plan.parameters(table)

    choices = [Grades.alike(table.num_items)]
    if degrees is not None and table.num_items:
        choices.append(Grades.of(degrees))
    least = [
        TrellisPlan((Grades.alike(table.num_users), items), ((1,), (1,) * len(items.sizes)), bits)
        for items in choices
        for bits in range(STATES[0], STATES[1] + 1)
    ]
    plans = [_filled(plan, table, lambda plan: cost(plan) <= most) for plan in least if cost(plan) <= most]
    if not plans:
        raise UnreachableBudgetError(
            f"budget must buy a byte for every row and the values of {1 << STATES[0]} states, at least "
            f"{min(map(cost, least))} {budget.measure}, got {math.floor(most)}"
        )
    return min(plans, key=lambda plan: plan.error(table))


def _filled(plan: TrellisPlan, table: TableSize, affordable: Any) -> TrellisPlan:
    """The plan with whatever further bytes are affordable."""
    widest = max(ENOUGH_BITS * table.embedding_dim // 8, 1)
    open_ = {(side, grade) for side, widths in enumerate(plan.widths) for grade in range(len(widths))}

    def left(place: tuple[int, int]) -> float:
        side, grade = place
        return float(plan.grades[side].counts[grade] * 4.0 ** (-8 * plan.widths[side][grade] / table.embedding_dim))

    while open_:
        side, grade = best = max(sorted(open_), key=left)
        wider = [list(widths) for widths in plan.widths]
        wider[side][grade] += 1
        more = plan._replace(widths=(tuple(wider[0]), tuple(wider[1])))
        if wider[side][grade] <= widest and affordable(more):
            plan = more
        else:
            open_.remove(best)
    return plan
