"""Compiled loops run by several threads, which give the same for any number of them.

The threads are Python's, and the loops let go of its lock (`nogil=True`). Unlike Numba's own they leave the processor
alone while they wait, survive a fork, serve several callers at once, and loops written for them compile sooner.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(calls: Sequence[Callable[[], _T]]) -> list[_T]:
    """What calls return, each made on a thread of its own at the same time, the first one on this thread.

    All of them have ended when this does, also by an error or an interrupt.
    """
    first, *others = calls
    if not others:
        return [first()]
    futures = list(map(_pool(len(others)).submit, others))
    try:
        return [first(), *(future.result() for future in futures)]
    finally:
        wait(futures)


def in_parts(loop: Callable[..., _T], parts: int, *arguments: Any) -> list[_T]:
    """What `loop(part, parts, *arguments)` returns for every part, as `run` makes the calls."""
    return run([partial(loop, part, parts, *arguments) for part in range(parts)])


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "baco_gpu")


def _go_on_alone() -> None:
    """In a forked child, which has none of the threads that there were: PyTorch would wait for its own for ever."""
    _pool.cache_clear()
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_on_alone)
