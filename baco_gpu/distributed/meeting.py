"""Where the processes of a launch meet: in a part of their store that no earlier start of them has written to."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

_PAUSE = 0.02


def join_group(backend: str, timeout: float) -> None:
    """Make the default process group of all processes that the environment tells of, as torchrun and its like set it.

    torchrun keeps its store when it starts its processes again (`--max-restarts`), and PyTorch 2.13 meets in it
    without a word on which start it is: gloo may then call the addresses of processes that are dead. So rank 0 names a
    part of the store that is new, and gives the name to whoever asks by a name that is new, too.

    Raises
    ------
    RuntimeError, ValueError
        As `torch.distributed.init_process_group` does, where they have not met within `timeout` seconds.
    """
    store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
    store.set_timeout(timedelta(seconds=timeout))
    part = _give_out(store, size, timeout) if rank == 0 else _ask(store, rank)
    group = dist.PrefixStore(part, store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))


def _ask(store: dist.Store, rank: int) -> str:
    """The name that rank 0 gives."""
    question = f"baco_gpu/{uuid.uuid4()}"
    store.set(f"baco_gpu/asks/{rank}", question)
    part: str = store.get(question).decode()
    store.set(f"{part}/{rank}", "")
    return part


def _give_out(store: dist.Store, size: int, timeout: float) -> str:
    """Answer all others, until each of them has the name; a question of an earlier start may be answered as well."""
    part, deadline = f"baco_gpu/{uuid.uuid4()}", time.monotonic() + timeout
    missing = list(range(1, size))
    while missing := [rank for rank in missing if not store.check([f"{part}/{rank}"])]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no word of rank {', '.join(map(str, missing))}")
        for rank in missing:
            if store.check([f"baco_gpu/asks/{rank}"]):
                store.set(store.get(f"baco_gpu/asks/{rank}").decode(), part)
        time.sleep(_PAUSE)
    return part
