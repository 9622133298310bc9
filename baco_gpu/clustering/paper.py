"""The published solver's schedule: a few sweeps from singletons, and the number of clusters is what gamma makes it."""

from __future__ import annotations

from collections.abc import Callable

from baco_gpu.clustering.backends.base import Backend, Partition, Problem
from baco_gpu.clustering.multilevel import Observer
from baco_gpu.clustering.sweeps import singletons, sweep
from baco_gpu.errors import InputError

PUBLISHED_SWEEPS = 5

_GAMMA_RANGE = (1e-6, 1e9)
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
    """The gamma whose rows come nearest to the target from below, by bisection on a logarithmic scale.

    The number of rows is nearly, not strictly, monotone in gamma; the best of all values tried is returned.

    Raises
    ------
    InputError
        If even the smallest gamma leaves more rows than the target.
    """
    low, high = _GAMMA_RANGE
    fewest, most = rows_at(low), rows_at(high)
    if fewest > target_rows:
        raise InputError(
            f"budget of {target_rows} codebook rows cannot be met by sweeps alone: they reach {fewest} to {most} rows "
            f"on this graph; use solver='multilevel', which merges on"
        )
    best = (most, high) if most <= target_rows else (fewest, low)
    for _ in range(_SOLVES):
        if best[0] >= target_rows * (1 - tolerance) or high / low < 1 + 1e-9:
            break
        gamma = (low * high) ** 0.5
        rows = rows_at(gamma)
        if rows <= target_rows:
            low = gamma
            best = max(best, (rows, gamma))
        else:
            high = gamma
    return best[1]
