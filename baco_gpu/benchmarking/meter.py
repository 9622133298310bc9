"""What a device can do and what work takes of it: the bandwidth of a copy, the end of work, the peak of memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from baco_gpu.cuda.sharing import torch_lends
from baco_gpu.machine import describe_machine

_COPIES = 5
_PROCESS = Path("/proc/self")


class Meter(Protocol):
    """What measuring needs of the device that a backend works on."""

    @property
    def device(self) -> str:
        """The device, in words."""

    def synchronize(self) -> None:
        """Wait for the work that was handed to the device."""

    def copy_bandwidth(self) -> float:
        """Bytes read plus bytes written a second by a large copy: the best of five."""

    def forget_peak(self) -> None:
        """Let the peak of memory start from what is in use now."""

    def peak_bytes(self) -> int | None:
        """The most memory in use at a time since `forget_peak`; None where that cannot be known."""


class HostMeter:
    """The processor and memory of this machine, as so many threads use them; the peak is that of the whole process."""

    def __init__(self, threads: int = 1, copy_bytes: int = 1 << 28) -> None:
        self.threads = threads
        self.copy_bytes = copy_bytes

    @property
    def device(self) -> str:
        return f"{describe_machine()['cpu']} ({self.threads} threads)"

    def synchronize(self) -> None:
        """Work on the host is done when its call returns."""

    def copy_bandwidth(self) -> float:
        source = np.array_split(np.ones(self.copy_bytes // 8), self.threads)
        target = np.array_split(np.empty(self.copy_bytes // 8), self.threads)
        with ThreadPoolExecutor(self.threads) as pool:  # copying lets go of Python's lock
            return 2 * self.copy_bytes / _best_seconds(lambda: list(pool.map(np.copyto, target, source)))

    def forget_peak(self) -> None:
        try:
            (_PROCESS / "clear_refs").write_text("5")  # man 5 proc
        except OSError:  # another system, or one that does not let us: the peak is then that of the process so far
            return

    def peak_bytes(self) -> int | None:
        status = _PROCESS / "status"
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return 1024 * int(found[1]) if found else None


class CudaMeter:
    """CuPy's current device and stream, and whatever it takes memory from: its own pool, or PyTorch's allocator.

    `cupy` is the module.
    """

    def __init__(self, cupy: Any, copy_bytes: int = 1 << 30) -> None:
        self._cupy = cupy
        self.copy_bytes = copy_bytes

    @property
    def device(self) -> str:
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._cupy.cuda.Device().id)
        return str(properties["name"].decode())

    def synchronize(self) -> None:
        self._cupy.cuda.get_current_stream().synchronize()

    def copy_bandwidth(self) -> float:
        source = self._cupy.ones(self.copy_bytes // 8)
        target = self._cupy.empty_like(source)

        def copy() -> None:
            self._cupy.copyto(target, source)
            self.synchronize()

        return 2 * self.copy_bytes / _best_seconds(copy)

    def forget_peak(self) -> None:
        self._pool.free_all_blocks()
        torch = torch_lends(self._cupy)
        if torch is not None:
            torch.cuda.reset_peak_memory_stats(self._cupy.cuda.Device().id)

    def peak_bytes(self) -> int | None:
        torch = torch_lends(self._cupy)
        if torch is not None:
            return int(torch.cuda.max_memory_allocated(self._cupy.cuda.Device().id))
        # What the pool has taken and, since `forget_peak`, given back nothing of.
        return int(self._pool.total_bytes())

    @property
    def _pool(self) -> Any:
        return self._cupy.get_default_memory_pool()


def _best_seconds(copy: Callable[[], object]) -> float:
    """The shortest of a few copies, after one that touches the memory first."""
    copy()
    best = float("inf")
    for _ in range(_COPIES):
        started = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - started)
    return best
