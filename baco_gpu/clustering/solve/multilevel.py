"""The multilevel solver: sweeps, then merging in steps with refining sweeps after each, down to an exact budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from baco_gpu.clustering.backends.backend import Backend, Partition, Problem
from baco_gpu.clustering.solve.merging import merge_to
from baco_gpu.clustering.solve.sweeps import count_rows, singletons, sweep

Observer = Callable[[str, Partition], None]


@dataclass(frozen=True)
class Schedule:
    """How long the solver works at each stage.

    Attributes
    ----------
    sweeps : int
        Sweeps from singletons; the last one is undone if it falls below the budget.
    levels : int
        Geometric steps in which merging goes from there down to the budget.
    refinements : int
        Sweeps after each step. They hold the rows, so that the last step's still meet the budget.
    """

    sweeps: int = 5
    levels: int = 4
    refinements: int = 2

    @property
    def stages(self) -> int:
        return self.sweeps + self.levels * (1 + self.refinements)


def multilevel(
    backend: Backend,
    problem: Problem,
    penalty: float,
    target_rows: int | None,
    *,
    seed: int,
    schedule: Schedule,
    observe: Observer,
    shared: bool = False,
) -> Partition:
    """Cluster into at most `target_rows` codebook rows (one less in rare cases); without a target, for the best Q.

    A co-cluster has a row for each side or, with `shared`, one for both.
    `observe(stage, partition)` is called after every sweep and every merging step.
    """
    partition = singletons(backend, problem)
    number = 0
    for _ in range(schedule.sweeps):
        before = partition.copy()
        moved = sweep(backend, problem, partition, penalty, seed=seed, number=number)
        if target_rows is not None and count_rows(backend, partition, shared=shared) < target_rows:
            partition = before
            break
        number += 1
        observe("sweep", partition)
        if not moved:
            break

    for target in _targets(count_rows(backend, partition, shared=shared), target_rows, schedule.levels):
        partition = merge_to(backend, problem, partition, penalty, target, shared=shared)
        observe("merge", partition)
        for _ in range(schedule.refinements):
            sweep(backend, problem, partition, penalty, seed=seed, number=number, hold_rows=target is not None)
            number += 1
            observe("refine", partition)
    return partition


def _targets(rows: int, target_rows: int | None, levels: int) -> list[int | None]:
    """Where each merging step stops: geometric from `rows` to the target, which is the last one."""
    if target_rows is None:
        return [None] * levels
    shrink = min(1.0, target_rows / max(rows, 1))
    return [round(rows * shrink ** (level / levels)) for level in range(1, levels)] + [target_rows]
