"""Who has failed, where a collective has: torch.distributed tells an address, or nothing but that time is up."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_process_group_store

_PATIENCE = 5.0  # seconds that those who meet the same error have to say so
_STORE_PATIENCE = 2 * _PATIENCE
_PAUSE = 0.05
_KEEPER = "the process that keeps the group's store (rank 0, unless a launcher does)"
_number = itertools.count()
_T = TypeVar("_T")


class Process(NamedTuple):
    """Where a rank runs."""

    host: str
    pid: int

    @classmethod
    def this(cls) -> Process:
        return cls(socket.gethostname(), os.getpid())

    def has_ended(self) -> bool:
        """Whether it was a process of this host and is no more; of those of other hosts nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state in ("Z", "X")  # dead, and not yet waited for


class RollCall:
    """Finds the rank to blame through the store by which the processes of a group have met.

    A rank that fails notes why. One whose collective fails says that it is there itself, and asks who has noted a
    failure, whose process has ended, and who does not answer. All ranks make as many roll calls, in the same order.

    Attributes
    ----------
    processes : list of Process, of all ranks; to be set
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._rank = dist.get_rank(group)
        self._store = dist.PrefixStore(f"baco_gpu/{next(_number)}", _get_process_group_store(group))
        self.processes: list[Process] = []

    def note_failure(self, why: str) -> None:
        """Leave word for the others; where the store has gone, too, nobody can be told."""
        self._ask(lambda: self._store.set(f"failed/{self._rank}", why))

    def verdict(self) -> str | None:
        """The rank that has failed, and why, as far as can be found out; None where all ranks are there."""
        answer = self._ask(self._verdict)
        return answer[0] if answer else f"{_KEEPER} has ended, or cannot be reached"

    def _ask(self, question: Callable[[], _T]) -> tuple[_T] | None:
        """What the store answers, in a tuple; None where it has gone.

        Behind a link that is cut a call of the store waits for as long as TCP does, a quarter of an hour, whatever the
        store's own timeout: so it is a thread that waits, and is left behind.
        """
        answers: list[_T] = []

        def ask() -> None:
            with suppress(RuntimeError):
                answers.append(question())

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_STORE_PATIENCE)
        return (answers[0],) if answers else None

    def _verdict(self) -> str | None:
        self._store.set(f"here/{self._rank}", "")
        others = [rank for rank in range(len(self.processes)) if rank != self._rank]
        silent, deadline = others, time.monotonic() + _PATIENCE
        while silent and time.monotonic() < deadline:
            for rank in others:
                if self._store.check([f"failed/{rank}"]):
                    return f"rank {rank}: {self._store.get(f'failed/{rank}').decode()}"
            silent = [rank for rank in others if not self._store.check([f"here/{rank}"])]
            for rank in silent:
                if self.processes[rank].has_ended():
                    host, pid = self.processes[rank]
                    return f"rank {rank} (process {pid} on {host}) has ended"
            time.sleep(_PAUSE)
        return f"no answer from rank {', '.join(map(str, silent))}" if silent else None
