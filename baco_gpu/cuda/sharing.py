"""PyTorch and CuPy in one process: one stream, and one allocator of the device's memory."""

from __future__ import annotations

import sys
import threading
from typing import Any, NamedTuple

# CuPy keeps no reference of its own to a stream in use, and every thread has streams of its own, one a device.
_followed = threading.local()
_lent: list[Any] = []  # torch's allocator as CuPy has it, once it does


def follow_torch() -> None:
    """Make torch's current stream on CuPy's current device, and its caching allocator, CuPy's, if torch has started
    CUDA; otherwise change nothing.

    CuPy's own operations and the kernels share CuPy's current stream, so the two never wait for one another, and what
    one gives back the other can have: a pool each would keep memory that the other one lacks. An allocator other than
    CuPy's own pool is left alone, and so is that pool within `cupy.cuda.using_allocator`: whoever chose it meant it.
    """
    torch = _torch_at_work()
    if torch is None:
        return
    import cupy

    device = cupy.cuda.Device().id
    pointer = torch.cuda.current_stream(device).cuda_stream
    if cupy.cuda.get_current_stream().ptr != pointer:
        stream = cupy.cuda.Stream.from_external(_TorchStream(pointer))
        vars(_followed)[str(device)] = stream
        stream.use()
    if cupy.cuda.get_allocator() == cupy.get_default_memory_pool().malloc:
        allocator = _allocator(torch, cupy).malloc
        try:
            cupy.cuda.set_allocator(allocator)
        except ValueError:  # within using_allocator
            return
        _lent[:] = [allocator]


def torch_lends(cupy: Any) -> Any:
    """The module torch where CuPy takes its memory from it; else None."""
    return sys.modules["torch"] if cupy.cuda.get_allocator() in _lent else None


def free_bytes() -> int:
    """What CuPy can have of its current device's memory: what nobody has, and what the pool that it takes from has and
    nobody uses; no more than a limit of CuPy's pool allows."""
    import cupy

    unclaimed, _ = cupy.cuda.runtime.memGetInfo()
    torch, pool = torch_lends(cupy), cupy.get_default_memory_pool()
    if torch is not None:
        device = cupy.cuda.Device().id
        return int(unclaimed + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if cupy.cuda.get_allocator() != pool.malloc:  # what an allocator of somebody else's keeps is not known
        return int(unclaimed)
    free = int(unclaimed + pool.free_bytes())
    return min(free, pool.get_limit() - pool.used_bytes()) if pool.get_limit() else free


def _torch_at_work() -> Any:
    """The module torch where it is imported and has started CUDA; else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _allocator(torch: Any, cupy: Any) -> Any:
    """An allocator for CuPy that takes memory of torch's, for the stream that CuPy is on: freed, it is reused in the
    order of that stream."""

    def allocate(size: int, device: int) -> Any:
        return torch.cuda.caching_allocator_alloc(size, device, cupy.cuda.get_current_stream().ptr)

    def give_back(address: int, device: int) -> None:
        torch.cuda.caching_allocator_delete(address)

    return cupy.cuda.PythonFunctionAllocator(allocate, give_back)


class _TorchStream(NamedTuple):
    """A stream under the CUDA stream protocol, which torch's own streams follow only in late versions."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer
