"""The backends by name. An explicit request is met or refused, never answered by another backend."""

from __future__ import annotations

import importlib.util

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends.base import Backend
from baco_gpu.errors import BackendUnavailableError

NAMES = ("auto", "cpu", "cuda")


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name; "auto" is the CPU in this release.

    The CUDA kernels give the same labels in tests on the CPU, but have not yet run on a device, so they must be asked
    for by name.

    Raises
    ------
    InputError
        For an unknown name.
    BackendUnavailableError
        For "cuda" where it cannot run, with the cause.
    """
    check_choice("backend", name, NAMES)
    if name == "cuda":
        obstacle = cuda_obstacle()
        if obstacle is not None:
            raise BackendUnavailableError(f"backend='cuda' is not available: {obstacle}")
        from baco_gpu.clustering.backends.cuda import CudaBackend

        return CudaBackend()
    from baco_gpu.clustering.backends.cpu import CpuBackend  # Numba loads here, not with the package

    return CpuBackend()


def cuda_obstacle() -> str | None:
    """Why the CUDA backend cannot run here; None where CuPy finds a device."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'baco_gpu[cuda13]', or [cuda12])"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no CUDA device ({error})"
    return None if count else "CuPy finds no CUDA device"
