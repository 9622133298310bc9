"""Processes that a launcher, such as torchrun, has started together: one task for all of them, or none."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from baco_gpu.errors import InputError, RankError, one_line

if TYPE_CHECKING:
    from baco_gpu.distributed.torch_ranks import TorchRanks

RANK_TIMEOUT = 1800.0  # seconds
RankTimeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="Under torchrun, the longest wait for another process.")
]


def world_size() -> int:
    """How many processes were launched together, by what torchrun and its like set; InputError where it is no count."""
    return _count("WORLD_SIZE")


def restarted() -> bool:
    """Whether torchrun has started the processes again after one of them had failed (`--max-restarts`)."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def check_alone(command: str) -> None:
    """Raise InputError where several processes would all do the whole of a command that cannot share its work."""
    if world_size() > 1:
        raise InputError(
            f"{command} works in one process: expected no WORLD_SIZE in the environment, or 1, got {world_size()} "
            "(does torchrun start it?)"
        )


@contextmanager
def launched(backend: str, timeout: float) -> Iterator[TorchRanks | None]:
    """All processes that were launched together, for the block; None where there is this one alone.

    They meet over NCCL where they work on GPUs, each on that of its local rank, and over gloo elsewhere, where each
    takes its part of the cores. Nobody waits for another one longer than `timeout` seconds.

    Raises
    ------
    InputError
        Where they are to work on a GPU by number, which is not each rank's own, or on more GPUs than there are; where
        the environment does not say how to meet.
    """
    if world_size() == 1:
        yield None
        return
    import torch.distributed as dist

    from baco_gpu.distributed.meeting import join_group
    from baco_gpu.distributed.torch_ranks import TorchRanks

    on_gpus = backend.startswith("cuda")
    if on_gpus:
        _take_own_gpu(backend)
    else:
        _share_cores(_count("LOCAL_WORLD_SIZE"))
    try:
        kind = "nccl" if on_gpus else "gloo"
        join_group(kind, timeout)
    except ValueError as error:  # a variable of the environment
        raise InputError(
            f"WORLD_SIZE is {world_size()}, and processes meet by what torchrun sets beside it: {one_line(error)}"
        ) from error
    except RuntimeError as error:
        raise RankError(f"the {world_size()} ranks have not met within {timeout:g} s: {one_line(error)}") from error
    assert dist.group.WORLD is not None
    ranks = TorchRanks(dist.group.WORLD)
    before = signal.signal(signal.SIGTERM, lambda *_: ranks.stop())
    with ranks.telling():
        yield ranks
    # After an error the handler stays: torchrun sends the signal again to one that is about to say what happened.
    signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()


def _take_own_gpu(backend: str) -> None:
    """Make cuda:LOCAL_RANK the current device, for PyTorch and, where it is there, CuPy."""
    import torch

    if backend != "cuda":
        raise InputError(f"each of several processes works on the GPU of its local rank: expected cuda, got {backend}")
    local, count = _count("LOCAL_RANK", "0", minimum=0), torch.cuda.device_count()
    if local >= count:
        raise InputError(
            f"each process of a machine works on a GPU of its own: expected LOCAL_RANK below {count}, the number of "
            f"GPUs that PyTorch sees, got {local}"
        )
    torch.cuda.set_device(local)
    if importlib.util.find_spec("cupy") is not None:
        import cupy

        cupy.cuda.Device(local).use()


def _count(name: str, default: str = "1", minimum: int = 1) -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal() or int(text) < minimum:
        raise InputError(f"the environment variable {name} must be an integer at least {minimum}, got {text!r}")
    return int(text)


def _share_cores(processes: int) -> None:
    """Numba takes all cores in every process, unless told otherwise."""
    if "NUMBA_NUM_THREADS" not in os.environ:
        import numba

        numba.set_num_threads(max(1, numba.get_num_threads() // processes))
