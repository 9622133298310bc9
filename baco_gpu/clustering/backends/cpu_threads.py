"""Numba's threads, and what they cannot do: go on after a fork, and serve two Python threads at once."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba

from baco_gpu.errors import BackendUnavailableError

_one_at_a_time = threading.RLock()
_is_cut_off = False


def check_threads() -> None:
    """Raise BackendUnavailableError in a forked process whose parent had begun GNU OpenMP's threads.

    Numba would end the process at the first loop.
    """
    if _is_cut_off:
        raise BackendUnavailableError(
            "backend='cpu' cannot run in a process forked after GNU OpenMP has begun its threads, as a fit does: start "
            "processes by 'spawn' or 'forkserver', or set NUMBA_THREADING_LAYER=workqueue before the first fit"
        )


@contextmanager
def threads(used: int) -> Iterator[None]:
    """Numba set to so many threads for the block; other Python threads wait where its layer serves one at a time."""
    check_threads()
    allowed = numba.get_num_threads()
    numba.set_num_threads(used)  # this begins the threads, and the layer is known
    try:
        if numba.threading_layer() == "workqueue":
            with _one_at_a_time:
                yield
        else:
            yield
    finally:
        numba.set_num_threads(allowed)


def _after_fork() -> None:
    """In the child: its one thread holds no lock of the parent's others."""
    global _is_cut_off, _one_at_a_time
    _one_at_a_time = threading.RLock()
    try:
        _is_cut_off = numba.threading_layer() == "omp" and _is_gnu()
    except ValueError:  # none has begun
        _is_cut_off = False


def _is_gnu() -> bool:
    return bool(importlib.import_module("numba.np.ufunc.omppool").openmp_vendor == "GNU")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
