"""The backends by name: that of NAME is in the file NAME_backend.py, where `backend_on` makes it.

An explicit request is met or refused, never answered by another backend.
"""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends.backend import Backend

_FILE = "_backend"
_ASKED = re.compile(r"([a-z]+)(?::([0-9]{1,4}))?")

NAMES = (
    "auto",
    *(file.name.removesuffix(_FILE) for file in pkgutil.iter_modules(__path__) if file.name.endswith(_FILE)),
)


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
        For one that cannot run here, with the cause.
    """
    asked = _ASKED.fullmatch(name) if isinstance(name, str) else None
    kind, device = (name, None) if asked is None or asked[1] not in NAMES else asked.groups()
    check_choice("backend", kind, NAMES)
    # What it needs loads here, not with the package.
    module = import_module(f"{__name__}.{'cpu' if kind == 'auto' else kind}{_FILE}")
    backend: Backend = module.backend_on(None if device is None else int(device))
    return backend
