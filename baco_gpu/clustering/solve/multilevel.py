"""The multilevel solver: sweeps, then merging in steps with refining sweeps after each, down to an exact budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from baco_gpu.clustering.backends.backend import Array, Backend, Partition, Problem
from baco_gpu.clustering.solve.merging import merged
from baco_gpu.clustering.solve.sweeps import rows_by_side, singletons, sweep
from baco_gpu.clustering.solve.targets import Target, excesses, steps

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
    target: Target,
    *,
    seed: int,
    schedule: Schedule,
    observe: Observer,
    shared: bool = False,
    twins: tuple[Array, Array] | None = None,
) -> Partition:
    """Cluster into at most `target` codebook rows (one less in rare cases); without a target, for the best Q.

    A co-cluster has a row for each side or, with `shared`, one for both. `twins` start together (see `singletons`).
    With a target a side, it ends as `merge_to` does. `observe(stage, partition)` is called after every sweep and every
    merging step.
    """
    descent = Descent(
        backend, problem, penalty, seed=seed, schedule=schedule, observe=observe, shared=shared, twins=twins
    )
    return descent.to(target)


class Descent:
    """From singletons to one target after another, in ever fewer rows; the parameters are those of `multilevel`.

    Attributes
    ----------
    partition : Partition, as it is now
    """

    def __init__(
        self,
        backend: Backend,
        problem: Problem,
        penalty: float,
        *,
        seed: int,
        schedule: Schedule,
        observe: Observer,
        shared: bool = False,
        twins: tuple[Array, Array] | None = None,
    ) -> None:
        self.backend, self.problem, self.penalty = backend, problem, penalty
        self.seed, self.schedule, self.observe, self.shared = seed, schedule, observe, shared
        self.partition = singletons(backend, problem, twins)
        self._twins_together = twins is not None
        self._clusters = backend.clusters(problem, penalty, shared=shared)
        self._sweeps_left = schedule.sweeps
        self._number = 0

    @property
    def rows(self) -> tuple[int, int]:
        """The codebook rows of users and of items."""
        return rows_by_side(self.backend, self.partition, shared=self.shared)

    def to(self, target: Target) -> Partition:
        """Go on to a target; returns the partition, which a further call changes."""
        if self._twins_together and self._falls_below(target):  # so many rows that twins may have some each
            self.partition = singletons(self.backend, self.problem)
        self._twins_together = False
        self._sweep_to(target)
        for step in steps(self.rows, target, self.schedule.levels):
            self.partition = merged(self.backend, self._clusters, self.partition, self.penalty, step)
            self.observe("merge", self.partition)
            for _ in range(self.schedule.refinements):
                self._sweep(hold_rows=step is not None)
                self._number += 1
                self.observe("refine", self.partition)
        return self.partition

    def _sweep_to(self, target: Target) -> None:
        """The sweeps that are left, up to one that would fall below the target, which another target may allow."""
        while self._sweeps_left:
            before = self.partition.copy()
            moved = self._sweep()
            if self._falls_below(target):
                self.partition = before
                return
            self._number += 1
            self.observe("sweep", self.partition)
            self._sweeps_left = self._sweeps_left - 1 if moved else 0

    def _falls_below(self, target: Target) -> bool:
        return any(each.rows < 0 for each in excesses(self.rows, target))

    def _sweep(self, *, hold_rows: bool = False) -> int:
        """One sweep, in place; returns how many nodes moved."""
        return sweep(
            self.backend,
            self.problem,
            self.partition,
            self.penalty,
            seed=self.seed,
            number=self._number,
            hold_rows=hold_rows,
        )
