"""The published solver's schedule: a few sweeps from singletons, and the number of clusters is what gamma makes it."""

from __future__ import annotations

import math
from collections.abc import Callable

from baco_gpu.clustering.backends.backend import Backend, Partition, Problem
from baco_gpu.clustering.solve.multilevel import Observer
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.errors import UnreachableBudgetError

PUBLISHED_SWEEPS = 5

_GAMMA_RANGE = (1e-6, 1e9)
_RESOLUTION = 1e-4
_SOLVES = 40


def sweeps_only(
    backend: Backend, problem: Problem, penalty: float, *, seed: int, sweeps: int, observe: Observer
) -> Partition:
    """At most `sweeps` sweeps from singletons, fewer if no node moves any more (arXiv 2604.18351, algorithm 1)."""
    partition = singletons(backend, problem)
    for number in range(sweeps):
        moved = sweep(backend, problem, partition, penalty, seed=seed, number=number)
        observe("sweep", partition)
        if not moved:
            break
    return partition


def search_gamma(rows_at: Callable[[float], int], target_rows: int, tolerance: float = 1e-3) -> float:
    """A gamma whose rows are at most the target, and within `tolerance` below it unless the rows jump there.

    The number of rows is nearly, not strictly, monotone in gamma, and jumps where a small change tips many nodes; the
    best of all values tried is returned. Steps are made of exactly rounded operations alone, so that every machine
    finds the same gamma.

    Raises
    ------
    UnreachableBudgetError
        If even the smallest gamma leaves more rows than the target.
    """
    lowest, highest = _GAMMA_RANGE
    rows, gamma, factor = rows_at(1.0), 1.0, 8.0
    below = above = (rows, gamma)
    while below[0] > target_rows:
        if gamma == lowest:
            raise UnreachableBudgetError(
                f"budget of {target_rows} codebook rows cannot be met by sweeps alone: they reach {rows} to "
                f"{rows_at(highest)} rows on this graph; use solver='multilevel', which merges on"
            )
        gamma, factor, above = max(gamma / factor, lowest), factor**2, below
        rows = rows_at(gamma)
        below = (rows, gamma)
    while above[0] <= target_rows:
        if gamma == highest or above[0] >= target_rows * (1 - tolerance):
            return gamma
        gamma, factor, below = min(gamma * factor, highest), factor**2, above
        rows = rows_at(gamma)
        above = (rows, gamma)

    best = below
    for turn in range(_SOLVES):
        if best[0] >= target_rows * (1 - tolerance) or above[1] / below[1] < 1 + _RESOLUTION:
            break
        if turn % 2:
            gamma = math.sqrt(below[1] * above[1])
        else:  # along the straight line between the two, to just below the target, but clear of its ends
            share = (target_rows * (1 - tolerance / 2) - below[0]) / (above[0] - below[0])
            gamma = below[1] + (above[1] - below[1]) * min(max(share, 0.05), 0.95)
        rows = rows_at(gamma)
        if rows <= target_rows:
            below = (rows, gamma)
            best = max(best, below)
        else:
            above = (rows, gamma)
    return best[1]
