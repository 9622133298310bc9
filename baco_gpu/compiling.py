"""Loops compiled by Numba, kept on the disk where there is a folder for them, and how long that takes.

A loop is compiled when it is first called, for seconds: whoever measures what calls it takes a `Stopwatch`, and whoever
waits is told (`telling`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from baco_gpu.progress import Progress

PHASE = "compiling (once)"

_told = False


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit(cache=True, **options)`, and without a cache where no folder for it can be written."""
    from numba import njit

    _listen()

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _tell()
            return njit(**options)(function)

    return decorate


class Stopwatch:
    """Wall-clock seconds since it was made: `compiling`, and `seconds` for all else."""

    def __init__(self) -> None:
        self._started, self._compiled = time.perf_counter(), _clock.seconds

    @property
    def compiling(self) -> float:
        return _clock.seconds - self._compiled

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started - self.compiling


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Let `progress` say so while loops are compiled; of several around one another the innermost."""
    listener = _Listener(progress)
    _clock.listeners.append(listener)
    try:
        yield
    finally:
        _clock.listeners.remove(listener)
        if listener.seconds:
            progress(PHASE, 1, 1, f"{listener.seconds:.1f} s")


class _Listener:
    def __init__(self, progress: Progress) -> None:
        self.progress, self.seconds = progress, 0.0


class _Clock:
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


_clock = _Clock()


@cache
def _listen() -> None:
    """Have Numba tell the clock of what it compiles, and not of what it reads from the disk."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            _clock.start()

        def on_end(self, event: Any) -> None:
            _clock.end()

    event.register("numba:compile", Listener())


def _tell() -> None:
    global _told
    if not _told:
        _told = True
        warnings.warn(
            "Numba finds no folder that it can write its cache into: every process compiles its loops anew, for "
            "some seconds (NUMBA_CACHE_DIR names another folder)",
            stacklevel=4,
        )
