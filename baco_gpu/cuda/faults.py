"""A device that is lost amid work: told from errors that pass, and in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from baco_gpu.errors import BacoError, DeviceLostError, brief


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is CuPy's or PyTorch's of a device that has no memory left; neither need be imported."""
    return type(error).__name__ == "OutOfMemoryError"


@contextmanager
def telling_lost_device(device: str, synchronize: Callable[[], object]) -> Iterator[None]:
    """Within the block an error that sticks to a device is a `DeviceLostError`; all others pass on.

    After an address out of bounds, a memory fault or a hang of a kernel, CUDA answers every later call of the process
    with the error: whether it is such a one, `synchronize`, which waits for the device, tells.
    """
    try:
        yield
    except BacoError:
        raise
    except RuntimeError as error:  # which CuPy's and PyTorch's of CUDA are
        try:
            synchronize()
        except RuntimeError:
            raise DeviceLostError(
                f"{device} has failed, and nothing more can run on it in this process: {brief(error)}; start again "
                "(nvidia-smi and the system's log may say why)"
            ) from error
        raise
