"""Loops compiled by Numba, kept on the disk where there is a folder for them, and run by several threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
from numba import njit

from baco_gpu.errors import brief
from baco_gpu.parallel import in_parts
from baco_gpu.stopwatch import clock

_T = TypeVar("_T")
# Options of a function that other loops call, and of a loop that Python calls: without what nobody uses, they compile
# sooner.
PART = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
_LOOP = {"no_cfunc_wrapper": True, "error_model": "numpy"}
_told = False


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit(cache=True, **options)`, and without a cache where no folder for it can be written."""

    _listen()

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            loop = njit(cache=True, **{**_LOOP, **options})(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _tell(
                "Numba finds no folder that it can write its cache into: every process compiles its loops anew, for "
                "some seconds (NUMBA_CACHE_DIR names another folder)"
            )
            return njit(**{**_LOOP, **options})(function)
        _guard(loop._cache)
        return loop

    return decorate


def on_threads(loop: Callable[..., _T], *arguments: Any) -> list[_T]:
    """What a loop returns for each of as many parts as Numba is set to use threads: see `in_parts`."""
    return in_parts(loop, numba.get_num_threads(), *arguments)


def _guard(kept: Any) -> None:
    """Have Numba compile what it cannot read of its cache, as where a class that a loop takes has another name now."""
    read = kept.load_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return read(*arguments)
        except Exception as error:
            _tell(
                f"Numba's cache of compiled loops in {kept.cache_path} is damaged or of another version "
                f"({brief(error)}): they are compiled anew"
            )
            kept.flush()
            return None

    kept.load_overload = load_overload


@cache
def _listen() -> None:
    """Have Numba tell the clock of what it compiles, and not of what it reads from the disk."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            clock.start()

        def on_end(self, event: Any) -> None:
            clock.end()

    event.register("numba:compile", Listener())


def _tell(what: str) -> None:
    global _told
    if not _told:
        _told = True
        warnings.warn(what, stacklevel=4)
