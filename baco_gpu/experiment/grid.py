"""Running a grid: what is not there yet, one run after the other, with what is left and how long that may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.experiment.compression import compress
from baco_gpu.experiment.run import run
from baco_gpu.experiment.trial_store import DONE, FAILED, TrialStore
from baco_gpu.experiment.trials import Trial
from baco_gpu.machine import describe_machine, describe_versions
from baco_gpu.models.model import find_model
from baco_gpu.progress import Progress, silent
from baco_gpu.training.trainer import DivergenceError


@dataclass(frozen=True)
class GridOutcome:
    """The records that are there in the end, in the order of the trials, and how many are left to another process."""

    records: list[dict[str, Any]]
    unfinished: int


def run_grid(
    trials: Sequence[Trial], split: SplitInteractions, store: TrialStore, *, progress: Progress = silent
) -> GridOutcome:
    """Do every run that has no record and that no other process is at.

    A budget that a method cannot be brought to, and a training that diverges, are results: they are recorded with
    their reason, and the grid goes on. Any other error ends it, and leaves what is finished.

    Parameters
    ----------
    trials : sequence of Trial
    split : SplitInteractions, what the trials were planned for
    store : TrialStore
    progress : function
        Called with phase "runs" before and after every run, and with the phases of the run itself.
    """
    clock = _Clock(len(trials))
    elsewhere = 0
    for trial in trials:
        record = store.read(trial)
        if record is None:
            progress("runs", clock.done, len(trials), clock.note(trial))
            with store.claim(trial) as mine:
                # It may have been finished between the look and the claim.
                record = store.read(trial) if mine else None
                if mine and record is None:
                    record = store.write(trial, _do(trial, split, progress))
            elsewhere += not mine
        clock.count(record)
    progress("runs", clock.done, len(trials), f"{elsewhere} left to another process" if elsewhere else "")
    found = [store.read(trial) for trial in trials]
    return GridOutcome([record for record in found if record is not None], sum(record is None for record in found))


def _do(trial: Trial, split: SplitInteractions, progress: Progress) -> dict[str, Any]:
    """One run: the content of its record."""
    started = time.perf_counter()
    content: dict[str, Any] = {"machine": describe_machine(), "versions": describe_versions()}
    try:
        sides = find_model(trial.model).table_names
        compression = compress(split, trial.method, trial.estimator(), sides=sides, progress=progress)
        outcome = run(
            split, compression, trial.model, trial.training_settings(), options=trial.options, progress=progress
        )
    except (UnreachableBudgetError, DivergenceError) as error:
        content |= {"status": FAILED, "reason": str(error)}
    else:
        content |= {"status": DONE, "figures": outcome.summary(), "curve": outcome.curve}
    return {**content, "seconds": time.perf_counter() - started}


class _Clock:
    """Counts runs, and estimates what is left from those of the same model, or from all."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._seconds: dict[str, list[float]] = {}

    def count(self, record: dict[str, Any] | None) -> None:
        if record is not None:
            self.done += 1
            self._seconds.setdefault(record["run"]["model"], []).append(record["seconds"])

    def note(self, trial: Trial) -> str:
        known = self._seconds.get(trial.model) or [value for values in self._seconds.values() for value in values]
        if not known:
            return trial.title
        left = (self.total - self.done) * sum(known) / len(known)
        return f"{trial.title}; {self.total - self.done} left, about {_duration(left)}"


def _duration(seconds: float) -> str:
    """A time to the minute: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
