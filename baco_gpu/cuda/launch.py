"""Launching kernels through CuPy: checked and typed arguments, and grids."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np

from baco_gpu.cuda.catalogue import KERNELS, instance
from baco_gpu.cuda.plan import Limits

# What NumPy, CuPy and PyTorch call the types of C++.
_DTYPES = {
    **{"long": "int64", "word": "uint64", "int": "int32", "byte": "uint8"},
    **{"float": "float32", "double": "float64"},
}
_INSTANCES = {
    **{"int": "int32", "long long": "int64"},
    **{"float": "float32", "double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
}


class Launcher(Protocol):
    """Whatever runs a kernel by name on arrays of its own kind."""

    @property
    def limits(self) -> Limits:
        """What the kernels were compiled for."""

    @property
    def processors(self) -> int:
        """The multiprocessors of the device."""

    def __call__(self, kernel: str, values: tuple[str, ...], blocks: int, arguments: Sequence[Any]) -> None:
        """Run an instance of a kernel on so many thread blocks."""


def typed(kernel: str, values: tuple[str, ...], arguments: Sequence[Any]) -> list[Any]:
    """The arguments of a launch: arrays as they are, numbers as NumPy scalars of just the type that C++ expects.

    Arrays are those of NumPy and CuPy, and tensors of PyTorch.

    Raises
    ------
    TypeError
        If there are too many or too few, or an array is not a contiguous one of the expected dtype. Past this point
        nothing would notice, and the kernel would read beyond the array.
    """
    expected = _parameters(kernel, values)
    if len(arguments) != len(expected):
        raise TypeError(f"{kernel} takes {len(expected)} arguments, got {len(arguments)}")
    result: list[Any] = []
    for parameter, argument in zip(expected, arguments, strict=True):
        if parameter.number is not None:
            result.append(parameter.number(argument))
        elif argument is None:
            if not parameter.optional:
                raise TypeError(f"{kernel}: {parameter.name} must be an array, got None")
            result.append(None)
        else:
            found, contiguous = _described(argument)
            if found != parameter.dtype or not contiguous:
                raise TypeError(
                    f"{kernel}: {parameter.name} must be a contiguous array of {parameter.dtype}, got {found}"
                )
            result.append(argument)
    return result


class _Parameter(NamedTuple):
    """What an instance expects of an argument: a number of a type, or an array."""

    name: str
    dtype: str
    number: type[np.generic] | None
    optional: bool


@functools.cache
def _parameters(kernel: str, values: tuple[str, ...]) -> tuple[_Parameter, ...]:
    template = dict(zip(KERNELS[kernel].axes, values, strict=True))
    dtypes = {**_DTYPES, **{axis: _INSTANCES.get(value, "") for axis, value in template.items()}}
    dtypes["wide"] = "float64" if template.get("value") == "double" else "float32"
    parameters = []
    for name, kind in KERNELS[kernel].arguments:
        dtype = dtypes[kind.rstrip("*?")]
        number = None if "*" in kind else np.dtype(dtype).type
        optional = kind.endswith("?") and not (name == "weights" and template.get("weighted") == "true")
        parameters.append(_Parameter(name, dtype, number, optional))
    return tuple(parameters)


def _described(array: Any) -> tuple[str, bool]:
    """The name of an array's dtype (of its class, where it has none), and whether it is contiguous."""
    if not hasattr(array, "dtype"):
        return type(array).__name__, False
    contiguous = array.is_contiguous() if hasattr(array, "is_contiguous") else array.flags.c_contiguous
    return _name(array.dtype), contiguous


@functools.cache
def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


class CudaLauncher:
    """Runs kernels on one CUDA device, which is the current one of whoever calls.

    Parameters
    ----------
    device : int, optional
        Its number; without one it is CuPy's current device.
    limits : Limits, optional
    stream : function without arguments, optional
        Gives the pointer of the CUDA stream of a launch; without one it is CuPy's current stream on the device.

    Raises
    ------
    BackendUnavailableError
        If NVRTC is missing or does not know the device.
    """

    def __init__(
        self, device: int | None = None, limits: Limits | None = None, stream: Callable[[], int] | None = None
    ) -> None:
        import cupy

        from baco_gpu.cuda.loader import load

        there = cupy.cuda.Device(device)
        self.device = int(there.id)
        self.limits = limits or Limits()
        with there:
            self._kernels = load(self.limits)
        self._stream = stream
        self.processors = int(there.attributes["MultiProcessorCount"])

    def __call__(self, kernel: str, values: tuple[str, ...], blocks: int, arguments: Sequence[Any]) -> None:
        given = typed(kernel, values, arguments)
        for (name, _), value in zip(KERNELS[kernel].arguments, given, strict=True):
            # A kernel follows any address: one of the host's is an error that no later call of CUDA survives.
            if not (value is None or isinstance(value, np.generic) or _device_of(value) == self.device):
                raise TypeError(f"{kernel}: {name} must be on cuda:{self.device}, got one on {_place(value)}")
        packed = tuple(map(_packed, given))
        # CuPy reads the pointer and nothing else.
        stream = None if self._stream is None else SimpleNamespace(ptr=self._stream())
        self._kernels[instance(kernel, values)]((blocks,), (self.limits.threads,), packed, 0, stream)


def _device_of(array: Any) -> int | None:
    """The number of the CUDA device that has an array of CuPy or a tensor of PyTorch; none for other memory."""
    if hasattr(array, "get_device"):  # PyTorch's, -1 on a CPU
        return int(array.get_device())
    return getattr(array.device, "id", None)


def _place(array: Any) -> str:
    device = _device_of(array)
    return "the host" if device is None or device < 0 else f"cuda:{device}"


def _packed(value: Any) -> Any:
    """An argument as CuPy takes it: the address in the place of a tensor of PyTorch, and of nothing."""
    if value is None:
        return np.uintp(0)
    return np.uintp(value.data_ptr()) if hasattr(value, "data_ptr") else value
