"""Counts the bytes that a solve on a device reads and writes, kernel by kernel and operation by operation.

Kernels are built so that every access to the arrays of their launch is counted as it happens. What CuPy does is
counted by a model: an operation reads its inputs and writes its result once, a scan too (decoupled look-back); a sort
reads and writes keys, and the values that go with them, once for every 8 bits of a key, and reads the keys once more
for a histogram (as in CUB). Caches are no part of it: every access counts.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.clustering.backends.device import DeviceBackend
from baco_gpu.cuda.catalogue import SOURCES
from baco_gpu.cuda.plan import Limits
from cuda_host.device_arrays import DeviceModule, OnDevice
from cuda_host.host import HostLauncher, metered_libraries

SOLVER_SOURCES = [source for source in SOURCES if source not in ("codebook.cu", "low_precision.cu", "sampling.cu")]


class Count(NamedTuple):
    calls: int = 0
    read: int = 0
    written: int = 0

    def plus(self, other: Count) -> Count:
        return Count(*map(sum, zip(self, other, strict=True)))


class Meter:
    """What has been counted so far, by (phase, what)."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Count] = defaultdict(Count)
        self._now: dict[str, Count] = defaultdict(Count)

    def note(self, what: str, read: int, written: int) -> None:
        self._now[what] = self._now[what].plus(Count(1, read, written))

    def end_phase(self, phase: str) -> None:
        """What has been counted since the last phase was of this one."""
        for what, count in self._now.items():
            self.counts[phase, what] = self.counts[phase, what].plus(count)
        self._now.clear()

    def operation(self, name: str, inputs: Sequence[Any], result: Any) -> None:
        """An operation of the array module, by the model."""
        read, written = sum(map(_nbytes, inputs)), _nbytes(result)
        if name in ("sort", "argsort", "lexsort"):
            read, written = _sorting(name, inputs[0])
        self.note(name, read, written)


class MeteredLauncher(HostLauncher):
    """Counts every access of a kernel to the arrays of its launch."""

    processors = 132

    def __init__(self, limits: Limits, meter: Meter, sources: Sequence[str] = SOLVER_SOURCES) -> None:
        super().__init__(metered_libraries(limits, sources), limits)
        self._meter = meter

    def run(self, name: str, blocks: int, arguments: Sequence[Any]) -> None:
        arrays = [value for value in arguments if isinstance(value, np.ndarray) and value.nbytes]
        places = np.array([array.ctypes.data for array in arrays], np.uintp)
        lengths = np.array([array.nbytes for array in arrays], np.uintp)
        library, _ = self._entries[name]
        library.meter_watch(len(arrays), ctypes.c_void_p(places.ctypes.data), ctypes.c_void_p(lengths.ctypes.data))
        super().run(name, blocks, arguments)
        found = np.zeros(2, np.uint64)
        library.meter_read(ctypes.c_void_p(found.ctypes.data))
        self._meter.note(name.partition("<")[0], *found.tolist())


def metered_backend(meter: Meter, limits: Limits) -> DeviceBackend:
    """A backend of which all work is counted, with these limits of its kernels."""
    OnDevice.operation = staticmethod(meter.operation)
    return DeviceBackend(DeviceModule(), MeteredLauncher(limits, meter), "metered")


def _nbytes(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_nbytes, value))
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _sorting(name: str, keys: np.ndarray) -> tuple[int, int]:
    """Bytes that a sort reads and writes; arrays that are stacked are sorted by one after the other."""
    count = keys.shape[-1]
    passes, values = keys.dtype.itemsize, 0 if name == "sort" else 8
    rounds = keys.size // max(count, 1)
    moved = count * (keys.dtype.itemsize + values)
    histogram, copied = count * keys.dtype.itemsize, moved
    return rounds * (passes * moved + histogram + copied), rounds * (passes * moved + copied)
