"""The backends by name. An explicit request is met or refused, never answered by another backend."""

from __future__ import annotations

import re

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends.backend import Backend
from baco_gpu.errors import BackendUnavailableError
from baco_gpu.graph.arrays import cuda_obstacle

NAMES = ("auto", "cpu", "cuda")


_CUDA = re.compile(r"cuda(?::([0-9]{1,4}))?")


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name; "auto" is the CPU in this release.

    "cuda" works on the device that is CuPy's current one as the backend is made, and "cuda:1" on the second one.

    The CUDA kernels give the same labels in tests on the CPU, but have not yet run on a device, so they must be asked
    for by name.

    Raises
    ------
    InputError
        For an unknown name.
    BackendUnavailableError
        For "cuda" where it cannot run, with the cause.
    """
    cuda = _CUDA.fullmatch(name) if isinstance(name, str) else None
    if cuda is not None:
        obstacle = cuda_obstacle()
        if obstacle is not None:
            raise BackendUnavailableError(f"backend='cuda' is not available: {obstacle}")
        from baco_gpu.clustering.backends.cuda import CudaBackend

        return CudaBackend(None if cuda[1] is None else int(cuda[1]))
    check_choice("backend", name, NAMES)
    from baco_gpu.clustering.backends.cpu import CpuBackend  # Numba loads here, not with the package

    return CpuBackend()
