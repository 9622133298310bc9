"""Ranks that are threads of this process: what they send goes through a list that all see."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numba
import numpy as np

_PATIENCE = 60.0  # seconds, after which a rank that is waited for has failed


class Meeting:
    """Where the threads wait for one another, and see what each has brought."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.brought: list[Any] = [None] * size


class ThreadRanks:
    """See `baco_gpu.ranks.Ranks`."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting = meeting
        self.rank, self.size = rank, len(meeting.brought)
        self.received: Counter[str] = Counter()

    def _all(self, own: Any) -> list[Any]:
        self._meeting.brought[self.rank] = own
        self._meeting.barrier.wait(_PATIENCE)
        every = list(self._meeting.brought)
        self._meeting.barrier.wait(_PATIENCE)
        return every

    def table(self, *numbers: int) -> np.ndarray:
        return np.array(self._all(numbers), dtype=np.int64)

    def gather(self, own, counts):
        every = self._all(np.array(np.asarray(own)))
        assert [len(part) for part in every] == list(counts)
        self.received["gather"] += sum(part.nbytes for part in every) - own.nbytes
        return every

    def exchange(self, parts, counts):
        every = self._all(np.array(np.asarray(parts)))
        ends = np.cumsum(counts, axis=1)
        assert [len(part) for part in every] == ends[:, -1].tolist()
        here = [
            part[end - count : end]
            for part, end, count in zip(every, ends[:, self.rank], counts[:, self.rank], strict=True)
        ]
        self.received["exchange"] += sum(part.nbytes for rank, part in enumerate(here) if rank != self.rank)
        return np.concatenate(here)

    def add(self, own):
        return sum(self._all(deepcopy(own)))

    def together(self, work):
        try:
            result, error = work(), None
        except Exception as caught:
            result, error = None, caught
        every = self._all(error)
        for one in [error, *every]:
            if one is not None:
                raise one
        return result

    def agree(self, **said):
        every = self._all(said)
        assert all(other == every[0] for other in every), every


def on_ranks(size: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What `work` gives on every rank, with one thread of Numba each."""
    meeting = Meeting(size)

    def on_rank(rank: int) -> Any:
        numba.set_num_threads(1)
        try:
            return work(ThreadRanks(meeting, rank))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(on_rank, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [future.result() for future in futures]
