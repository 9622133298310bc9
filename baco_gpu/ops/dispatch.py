"""What lookups and sampling run on a GPU: the kernels where CuPy is installed, PyTorch's own operations otherwise.

The choice is made by what is installed and by the environment variable BACO_TRAINING_KERNELS (`on` or `off`), and
`baco env` shows it. Where the kernels are chosen and cannot be compiled or loaded, that is an error: nothing changes
over by itself.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

from baco_gpu.checks import check_choice
from baco_gpu.cuda.launch import CudaLauncher, Launcher

VARIABLE = "BACO_TRAINING_KERNELS"


def kernels_obstacle() -> str | None:
    """Why training on a GPU runs PyTorch's own operations; None where it runs the kernels.

    Raises
    ------
    InputError
        If the environment variable is neither `on` nor `off`.
    """
    setting = os.environ.get(VARIABLE, "on")
    check_choice(VARIABLE, setting, ("on", "off"))
    if setting == "off":
        return f"{VARIABLE} is off"
    if not _installed("cupy"):
        return "CuPy is not installed (pip install 'baco_gpu[cuda13]', or [cuda12])"
    return None


@functools.cache
def _installed(package: str) -> bool:
    # Asked at every lookup, and files are looked for; what is installed while a process runs counts in the next one.
    return importlib.util.find_spec(package) is not None


def launcher_of(device: torch.device) -> Launcher | None:
    """What launches kernels on the CUDA device of a tensor, on PyTorch's current stream; None where PyTorch's own
    operations run.

    Raises
    ------
    BackendUnavailableError
        If the kernels are chosen and NVRTC is missing or does not know the device.
    """
    if kernels_obstacle():
        return None
    # "cuda" is whichever device is current: a launcher kept for that would be another device's later.
    return _launcher(torch.cuda.current_device() if device.index is None else device.index)


def on_cuda(
    check: Callable[..., None], checked: int, kernels: Callable[..., Any], otherwise: Callable[..., Any]
) -> Callable[..., Any]:
    """An operator on CUDA tensors: the kernels, or PyTorch's own operations where those are chosen.

    Parameters
    ----------
    check : function of the first `checked` arguments
        Raises where they are not what they must be.
    kernels : function of a launcher and the arguments
    otherwise : function of the arguments
    """

    def run(*arguments: Any) -> Any:
        check(*arguments[:checked])
        where = arguments[0].device
        launch = launcher_of(where)
        if launch is None:
            return otherwise(*arguments)
        with torch.cuda.device(where):
            return kernels(launch, *arguments)

    return run


@functools.cache
def _launcher(device: int) -> Launcher:
    return CudaLauncher(device, stream=lambda: torch.cuda.current_stream(device).cuda_stream)
