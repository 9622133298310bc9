"""Loops run by several threads, which give the same for any number of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_parts(loop: Callable[..., Any], parts: int, *arguments: Any) -> None:
    """Run `loop(part, parts, *arguments)` for every part at the same time, each in a thread of its own.

    A loop that lets go of Python's lock (`nogil=True`) is to give the same for any number of parts. The threads are
    Python's: unlike OpenMP's they leave the processor alone while they wait, survive a fork, and serve several callers.
    """
    others = [_pool(parts - 1).submit(loop, part, parts, *arguments) for part in range(1, parts)]
    try:
        loop(0, parts, *arguments)
    finally:
        for other in others:
            other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "baco_gpu")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # which has none of these threads
