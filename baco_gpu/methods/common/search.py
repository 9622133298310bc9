"""Tuning a method's one knob until its codebook has as many rows as it may."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from baco_gpu.clustering.solve.targets import Target
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.methods.common.sides import Sides, number_of, rows_of

_SOLVES = 24
_TOLERANCE = 0.005


class Found(NamedTuple):
    """A solution, and the value of the knob that gave it."""

    knob: float
    sides: Sides


class KnobSearch:
    """Bisection, on a log scale, of a knob whose rows (nearly) rise with it.

    Solutions are remembered: a second search, for a few rows more, starts where the first one was.

    Parameters
    ----------
    name : str, what a message calls the method
    solve : function from a value of the knob to the assignments of both sides
    low, high : float, the ends of the range searched, above 0
    """

    def __init__(self, name: str, solve: Callable[[float], Sides], low: float, high: float) -> None:
        self.name = name
        self.solve = solve
        self.bounds = (low, high)
        self._known: dict[float, Found] = {}

    def __call__(self, rows: Target) -> Sides:
        """The assignments of `find`."""
        return self.find(rows).sides

    def find(self, target: Target) -> Found:
        """The solution whose rows come nearest to the target from below, within half a percent unless they jump there.

        The target is one number, of both sides or of one.

        Raises
        ------
        UnreachableBudgetError
            If every value tried has more rows.
        """
        low, high = self.bounds
        rows = number_of(target)
        best: tuple[int, Found] | None = None
        for _ in range(_SOLVES):
            found = self._at(math.sqrt(low * high))
            count = rows_of(found.sides, target)
            if count > rows:
                high = found.knob
                continue
            low = found.knob
            if best is None or count > best[0]:
                best = count, found
            if best[0] >= rows * (1 - _TOLERANCE):
                break
        if best is None:
            raise UnreachableBudgetError(
                f"{self.name} reaches no partition of at most {rows} codebook rows on this graph"
            )
        return best[1]

    def _at(self, knob: float) -> Found:
        if knob not in self._known:
            self._known[knob] = Found(knob, self.solve(knob))
        return self._known[knob]
