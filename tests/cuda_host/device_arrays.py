"""NumPy in the place of CuPy: arrays that note when the host waits for the device, and take part in nothing else.

What CuPy would refuse is an error here, too: arrays of NumPy among those of the device, functions of NumPy on arrays of
the device, and, where CuPy is installed, functions and arguments that it does not have.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from baco_gpu.clustering.backends.device import DeviceBackend
from cuda_host.host import host_backend

# What returns as many things as the values say; what takes a size, which must then be known; what takes NumPy's arrays.
SIZED_BY_VALUES = ("argwhere", "bincount", "extract", "flatnonzero", "nonzero", "repeat", "unique")
TAKE_A_SIZE = ("arange", "empty", "full", "ones", "zeros")
FROM_THE_HOST = ("array", "asarray")
SORTS = ("argsort", "lexsort", "sort")  # whether CuPy sorts arrays of no elements is a matter of its version


_here = threading.local()  # the device that is current on a thread


def current_device() -> int:
    """The number of the device that arrays come to, and are computed with, on this thread."""
    return getattr(_here, "device", 0)


def use_device(number: int) -> None:
    _here.device = number


class Place:
    """What CuPy says of where an array is."""

    def __init__(self, number: int) -> None:
        self.id = number


def _waiting(name: str) -> Callable[..., Any]:
    def method(self: OnDevice, *arguments: Any) -> Any:
        OnDevice.waits.append(name)
        return getattr(np.asarray(self), name)(*arguments)

    return method


class OnDevice(np.ndarray):
    """An array as on a GPU: whoever looks at its values makes the host wait, and is noted in `waits`.

    It is on the device that was current as it was made, and is computed with where that one is.
    """

    waits: ClassVar[list[str]] = []
    operation: ClassVar[Callable[[str, Sequence[Any], Any], None]] = staticmethod(lambda name, inputs, result: None)

    def __array_finalize__(self, other: Any) -> None:
        self.number = other.number if isinstance(other, OnDevice) else current_device()

    @property
    def device(self) -> Place:
        return Place(self.number)

    def set(self, array: np.ndarray) -> None:
        """Take the values of an array of the host."""
        if type(array) is not np.ndarray or (array.shape, array.dtype) != (self.shape, self.dtype):
            raise TypeError(f"expected an array of the host of {self.dtype} {self.shape}, got {array!r}")
        self.view(np.ndarray)[...] = array

    __bool__, __int__, __float__, __index__ = (_waiting(f"__{kind}__") for kind in ("bool", "int", "float", "index"))
    __iter__, __contains__, item, tolist = (_waiting(name) for name in ("__iter__", "__contains__", "item", "tolist"))

    def get(self) -> np.ndarray:
        """A copy on the host."""
        OnDevice.waits.append("get")
        return np.array(self)

    def __getitem__(self, key: Any) -> Any:
        if getattr(key, "dtype", None) == np.bool_:
            OnDevice.waits.append("mask")
        _refuse_the_host("indexing", key)
        found = super().__getitem__(key)
        if isinstance(key, OnDevice):
            OnDevice.operation("take", [key, found], found)
        return np.asarray(found).view(OnDevice) if isinstance(found, np.generic) else found

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse_the_host("assigning", key, value)
        super().__setitem__(key, value)
        OnDevice.operation("put", [key, value], value if isinstance(key, OnDevice) else np.asarray(self)[key])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **named: Any) -> Any:
        _refuse_the_host(ufunc.__name__, *inputs)
        if out is not None:
            named["out"] = tuple(map(_plain, out))
        result = getattr(ufunc, method)(*map(_plain, inputs), **named)
        OnDevice.operation(ufunc.__name__, inputs, result)
        return _there(result) if out is None else out[0]

    def copy(self, order: Any = "C") -> Any:
        result = super().copy(order)
        OnDevice.operation("copy", [self], result)
        return result

    def astype(self, *arguments: Any, **named: Any) -> Any:
        result = super().astype(*arguments, **named)
        OnDevice.operation("astype", [self], result)
        return result

    def __array_function__(self, function: Any, *arguments: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} takes no array of a device")


class DeviceModule:
    """The functions of NumPy, whose results are on the device."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found
        signature = _signature(name)

        def on_device(*arguments: Any, **named: Any) -> Any:
            if signature is not None:
                signature.bind(*arguments, **named)
            if name in SIZED_BY_VALUES or (name in TAKE_A_SIZE and isinstance(arguments[0], OnDevice)):
                OnDevice.waits.append(name)
            assert name not in SORTS or arguments[0].size, f"{name} of nothing"
            if name not in FROM_THE_HOST:
                _refuse_the_host(name, *arguments)
            elif isinstance(arguments[0], (tuple, list)):  # arrays are joined on the device if all have one dtype
                kinds = {(type(part), getattr(part, "dtype", None)) for part in arguments[0]}
                assert len(kinds) == 1 or not any(kind is OnDevice for kind, _ in kinds), kinds
            result = found(*map(_plain, arguments), **named)
            if name not in ("asarray", "empty", "empty_like"):
                OnDevice.operation(name, arguments, result)
            return _there(result)

        return on_device


@functools.cache
def _signature(name: str) -> inspect.Signature | None:
    """What CuPy's function takes; None where CuPy is not installed, or does not tell."""
    cupy = real_cupy()
    try:
        return None if cupy is None else inspect.signature(getattr(cupy, name))
    except (TypeError, ValueError):  # a function of C, or a universal one
        return None


@functools.cache
def real_cupy() -> Any:
    """CuPy, whatever stands in for it later; None where it is not installed."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy


def _refuse_the_host(what: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, (tuple, list)):
            _refuse_the_host(what, *value)
        elif type(value) is np.ndarray:
            raise TypeError(f"{what} takes no array of the host")
        elif isinstance(value, OnDevice) and value.number != current_device():
            raise ValueError(f"{what} takes no array of cuda:{value.number} where cuda:{current_device()} is current")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value.view(np.ndarray) if isinstance(value, OnDevice) else value


def _there(result: Any) -> Any:
    return np.asarray(result).view(OnDevice) if isinstance(result, (np.ndarray, np.generic, int)) else result


def strict_backend() -> DeviceBackend:
    """A backend whose arrays are all of this kind."""
    OnDevice.waits.clear()
    return DeviceBackend(DeviceModule(), host_backend()._launch, "strict")
