"""Memory of the host that kernels read where it lies: pinned, and mapped into the device's addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.errors import BackendUnavailableError


class HostArray(NamedTuple):
    """One array under two names: as NumPy knows it, and as kernels do.

    `device` is for kernels alone: they read it over the bus. Copies between host and device go by `host`.
    """

    host: np.ndarray
    device: Any


# Makes an array of a size and dtype, its values yet unknown.
HostMemory = Callable[[int, Any], HostArray]


def pinned_array(size: int, dtype: Any) -> HostArray:
    """A one-dimensional array in pinned memory, mapped for CuPy's current device.

    Not from CuPy's pool of pinned memory, which rounds sizes up to powers of two and keeps what is given back.

    Raises
    ------
    BackendUnavailableError
        If the host has no more memory to pin.
    """
    import cupy

    dtype = np.dtype(dtype)
    if not size:
        return HostArray(np.empty(0, dtype), cupy.empty(0, dtype))
    nbytes = size * dtype.itemsize
    try:
        memory = cupy.cuda.PinnedMemory(nbytes, cupy.cuda.runtime.hostAllocMapped)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(
            f"a graph larger than the device's memory needs {nbytes / 1e9:.2f} GB more of pinned host memory: {error}; "
            "remedy: backend='cpu' (the labels will be the same)"
        ) from error
    host = np.ndarray(size, dtype, buffer=cupy.cuda.PinnedMemoryPointer(memory, 0))
    # One address on both sides: host allocations are part of the unified address space (CUDA C++ Programming Guide,
    # "Unified Virtual Address Space").
    mapped = cupy.cuda.UnownedMemory(memory.ptr, nbytes, memory, cupy.cuda.Device().id)
    return HostArray(host, cupy.ndarray((size,), dtype, cupy.cuda.MemoryPointer(mapped, 0)))
