"""`TorchRanks`: what goes between the processes of a group, over torch.distributed, and how they end together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from baco_gpu.checks import check_instance
from baco_gpu.distributed.roll_call import Process, RollCall
from baco_gpu.errors import InputError, RankError, one_line

_T = TypeVar("_T")


class TorchRanks:
    """The processes of a group, as `baco_gpu.ranks.Ranks` has them.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup
        Of gloo or NCCL. All its processes make this call, and every other one, in the same order.

    Attributes
    ----------
    group : torch.distributed.ProcessGroup
    rank, size : int
    device : torch.device
        By which what is sent goes: NCCL's is PyTorch's current one as the ranks meet.
    received : Counter of int
        Bytes that have come here from other ranks, by the name of the method.

    Raises
    ------
    InputError
        If `group` is no process group.
    RankError
        From every method, where another process has ended, has failed or has kept this one waiting for longer than the
        group's timeout; it names the rank and the cause. The group is of no use after that.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        check_instance("process_group", group, dist.ProcessGroup)
        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)
        self.received: Counter[str] = Counter()
        nccl = dist.get_backend(group) == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
        self._judging = False
        self._roll_call = RollCall(group)
        self._roll_call.processes = self._objects(Process.this())

    def table(self, *numbers: int) -> np.ndarray:
        own = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        every = [torch.empty_like(own) for _ in range(self.size)]
        with self._waiting():
            dist.all_gather(every, own, group=self.group)
        self._count("table", (self.size - 1) * own.nbytes)
        return torch.stack(every).cpu().numpy()

    def gather(self, own: Any, counts: Sequence[int]) -> list[torch.Tensor]:
        # A broadcast from every rank sends nothing but what there is; gathering would fill all up to the longest.
        mine = self._tensor(own)
        every = [
            mine if rank == self.rank else mine.new_empty(count, *mine.shape[1:]) for rank, count in enumerate(counts)
        ]
        with self._waiting():
            works = [
                dist.broadcast(part, group_src=rank, group=self.group, async_op=True)
                for rank, part in enumerate(every)
                if len(part)
            ]
            for work in works:
                work.wait()
        self._count("gather", sum(part.nbytes for part in every) - mine.nbytes)
        return every

    def exchange(self, parts: Any, counts: np.ndarray) -> torch.Tensor:
        mine = self._tensor(parts)
        leave, come = counts[self.rank].tolist(), counts[:, self.rank].tolist()
        arrived = mine.new_empty(sum(come), *mine.shape[1:])
        with self._waiting():
            dist.all_to_all_single(arrived, mine, come, leave, group=self.group)
        self._count("exchange", arrived.nbytes // max(sum(come), 1) * (sum(come) - come[self.rank]))
        return arrived

    def add(self, own: Any) -> torch.Tensor:
        total = self._tensor(own).clone()
        with self._waiting():
            dist.all_reduce(total, group=self.group)
        self._count("add", total.nbytes)  # about: it depends on how gloo or NCCL goes about it
        return total

    def agree(self, **said: str) -> None:
        every = self._objects(said)
        for name in dict.fromkeys(name for one in every for name in one):
            first, *others = (one.get(name, "nothing") for one in every)
            for rank, other in enumerate(others, 1):
                if other != first:
                    raise InputError(
                        f"{name.replace('_', ' ')} must be the same on every rank, got {first} on rank 0 and "
                        f"{other} on rank {rank}"
                    )

    def together(self, work: Callable[[], _T]) -> _T:
        """What `work` gives here, once it has succeeded on every rank.

        Raises
        ------
        RankError
            If it has failed on some: with the error of the lowest of them, on all ranks. Where all failed alike, its
            own error.
        """
        result, error = None, None
        try:
            result = work()
        except Exception as caught:
            error = caught
        told = self._objects(None if error is None else one_line(error))
        failed = [rank for rank, message in enumerate(told) if message is not None]
        if error is not None and len(failed) == self.size and len(set(told)) == 1:
            raise error
        if failed:
            raise RankError(f"rank {failed[0]}: {told[failed[0]]}") from error
        return result  # type: ignore[return-value]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block an error that other ranks do not see is noted where they find its text."""
        try:
            yield
        except RankError:
            raise
        except BaseException as error:
            self._roll_call.note_failure(one_line(error))
            raise

    def stop(self) -> None:
        """End this process's part with a RankError that says why it was told to; to be called by a signal's handler."""
        if not self._judging:  # whoever is about to say who failed goes on
            raise RankError(self._verdict("stopped by SIGTERM"))

    def _objects(self, own: Any) -> list[Any]:
        every: list[Any] = [None] * self.size
        with self._waiting():
            dist.all_gather_object(every, own, group=self.group)
        return every

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.as_tensor(array).to(self.device).contiguous()

    def _count(self, name: str, received: int) -> None:
        self.received[name] += received

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.distributed has no class for a lost connection or a timeout
            raise RankError(self._verdict(f"the connection between the ranks has failed: {one_line(error)}")) from error

    def _verdict(self, otherwise: str) -> str:
        self._judging = True
        return self._roll_call.verdict() or otherwise
