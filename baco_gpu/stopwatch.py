"""How long work takes, and how much of that is Numba's compiling.

A loop is compiled when it is first called, for seconds: whoever measures what calls it takes a `Stopwatch`, and whoever
waits is told (`telling`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from baco_gpu.progress import Progress

PHASE = "compiling (once)"


class Stopwatch:
    """Wall-clock seconds since it was made: `compiling`, and `seconds` for all else."""

    def __init__(self) -> None:
        self._started, self._compiled = time.perf_counter(), clock.seconds

    @property
    def compiling(self) -> float:
        return clock.seconds - self._compiled

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started - self.compiling


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Let `progress` say so while loops are compiled; of several around one another the innermost."""
    listener = _Listener(progress)
    clock.listeners.append(listener)
    try:
        yield
    finally:
        clock.listeners.remove(listener)
        if listener.seconds:
            progress(PHASE, 1, 1, f"{listener.seconds:.1f} s")


class _Listener:
    def __init__(self, progress: Progress) -> None:
        self.progress, self.seconds = progress, 0.0


class Clock:
    """The seconds in which this process compiled; a loop that another one calls is compiled within that one's."""

    def __init__(self) -> None:
        self.seconds, self.listeners = 0.0, list[_Listener]()
        self._depth, self._since = 0, 0.0

    def start(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._since = time.perf_counter()
            if self.listeners and not self.listeners[-1].seconds:
                self.listeners[-1].progress(PHASE, 0, 1, "")

    def end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            spent = time.perf_counter() - self._since
            self.seconds += spent
            if self.listeners:
                self.listeners[-1].seconds += spent


clock = Clock()
