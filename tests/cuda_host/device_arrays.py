"""NumPy in the place of CuPy, with arrays that note whenever the host has to wait for the device to learn something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from baco_gpu.clustering.backends.base import Partition, Side
from baco_gpu.clustering.backends.device import DeviceBackend, DeviceProblem

# What returns as many things as the values say; and what takes a size, which must then be known.
SIZED_BY_VALUES = ("argwhere", "bincount", "extract", "flatnonzero", "nonzero", "repeat", "unique")
TAKE_A_SIZE = ("arange", "empty", "full", "ones", "zeros")


def _waiting(name: str) -> Callable[..., Any]:
    def method(self: OnDevice, *arguments: Any) -> Any:
        OnDevice.waits.append(name)
        return getattr(np.asarray(self), name)(*arguments)

    return method


class OnDevice(np.ndarray):
    """An array as on a GPU: whoever looks at its values makes the host wait, and is noted in `waits`."""

    waits: ClassVar[list[str]] = []

    __bool__, __int__, __float__, __index__ = (_waiting(f"__{kind}__") for kind in ("bool", "int", "float", "index"))
    __iter__, __contains__, item, tolist = (_waiting(name) for name in ("__iter__", "__contains__", "item", "tolist"))

    def get(self) -> np.ndarray:
        """A copy on the host."""
        OnDevice.waits.append("get")
        return np.array(self)

    def __getitem__(self, key: Any) -> Any:
        if getattr(key, "dtype", None) == np.bool_:
            OnDevice.waits.append("mask")
        found = super().__getitem__(key)
        return np.asarray(found).view(OnDevice) if isinstance(found, np.generic) else found


class DeviceModule:
    """The functions of NumPy, whose results are on the device."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found

        def on_device(*arguments: Any, **named: Any) -> Any:
            if name in SIZED_BY_VALUES or (name in TAKE_A_SIZE and isinstance(arguments[0], OnDevice)):
                OnDevice.waits.append(name)
            if name == "array":  # CuPy joins a sequence of its arrays if all have one dtype, and refuses others
                parts = arguments[0]
                assert {(type(part), part.dtype) for part in parts} == {(OnDevice, parts[0].dtype)}
            result = found(*map(_plain, arguments), **named)
            counted = isinstance(result, (np.ndarray, np.generic, int))
            return np.asarray(result).view(OnDevice) if counted else result

        return on_device


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return np.asarray(value) if isinstance(value, OnDevice) else value


def on_device(
    backend: DeviceBackend, problem: DeviceProblem, partition: Partition
) -> tuple[DeviceBackend, DeviceProblem, Partition]:
    """The same, over such arrays; no wait is noted yet."""
    users, items = (Side(*(None if part is None else part.view(OnDevice) for part in side)) for side in problem.sides)
    there = DeviceProblem((users, items), problem.num_users, problem.num_items)
    there.plans = problem.plans
    labels, volumes = (
        (users.view(OnDevice), items.view(OnDevice)) for users, items in (partition.labels, partition.volumes)
    )
    OnDevice.waits.clear()
    module = DeviceBackend(DeviceModule(), backend._launch, backend.name)
    return module, there, Partition(labels, volumes, partition.within)
