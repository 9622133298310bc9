"""A machine with GPUs that are none: NumPy's memory, kernels built for the CPU, and what CuPy says of devices.

Every thread has a current device, as with CUDA. Arrays belong to the one that was current as they were made, and
kernels to the one that they were loaded for; what mixes two of them is refused. `CudaBackend` and `CudaLauncher` run on
it as they are, and so does a whole module, in a process of its own:

    python -m cuda_host.stand_in benchmarks.gpu --edges 2e4
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from baco_gpu.cuda import loader
from baco_gpu.cuda.plan import Limits
from cuda_host.device_arrays import DeviceModule, current_device, real_cupy, use_device
from cuda_host.host import HostLauncher, full_libraries

FREE_BYTES = 1 << 32


class Device:
    """As `cupy.cuda.Device`."""

    compute_capability = "90"
    attributes: ClassVar = {"MultiProcessorCount": 3}

    def __init__(self, device: int | None = None) -> None:
        self.id = current_device() if device is None else device
        self._before: list[int] = []

    def use(self) -> None:
        use_device(self.id)

    def __enter__(self) -> Device:
        self._before.append(current_device())
        use_device(self.id)
        return self

    def __exit__(self, *_: Any) -> None:
        use_device(self._before.pop())


class Kernels:
    """The kernels of one device, by name expression."""

    _one_at_a_time = threading.Lock()

    def __init__(self, limits: Limits) -> None:
        self.device = current_device()
        self.launched: set[str] = set()
        self._run = HostLauncher(full_libraries(), limits).run

    def __getitem__(self, name: str) -> Any:
        def launch(grid: tuple[int], block: tuple[int], arguments: Sequence[Any], shared: int, stream: Any) -> None:
            if current_device() != self.device:
                raise RuntimeError(
                    f"CUDA_ERROR_INVALID_HANDLE: {name} of cuda:{self.device} on cuda:{current_device()}"
                )
            self.launched.add(name)
            with self._one_at_a_time:
                self._run(name, grid[0], arguments)

        return launch


class Machine(DeviceModule):
    """As the module `cupy`, on a machine with so many devices; `loaded` has the kernels of each."""

    def __init__(self, devices: int = 1) -> None:
        real_cupy()
        self.loaded: dict[int, Kernels] = {}
        pool = SimpleNamespace(
            malloc="pool",
            free_bytes=lambda: 0,
            used_bytes=lambda: 0,
            total_bytes=lambda: 0,
            get_limit=lambda: 0,
            free_all_blocks=lambda: None,
        )
        stream = SimpleNamespace(ptr=0, synchronize=lambda: None)
        self.get_default_memory_pool = lambda: pool
        self.cuda = SimpleNamespace(
            Device=Device,
            get_allocator=lambda: pool.malloc,
            get_current_stream=lambda: stream,
            runtime=SimpleNamespace(
                getDeviceCount=lambda: devices,
                getDeviceProperties=lambda number: {"name": b"stand-in"},
                memGetInfo=lambda: (FREE_BYTES, FREE_BYTES),
                deviceSynchronize=lambda: None,
                CUDARuntimeError=RuntimeError,
            ),
        )

    def load(self, limits: Limits) -> Kernels:
        """In the place of `loader.load`."""
        return self.loaded.setdefault(current_device(), Kernels(limits))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let this be the machine that the package finds."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "cupyx"]:
            patch.delitem(
                sys.modules, name
            )  # what CuPy loads once somebody looks at it, and finds only CuPy itself for
        patch.setitem(sys.modules, "cupy", self)
        patch.setattr(loader, "load", self.load)


if __name__ == "__main__":
    del sys.argv[0]
    Machine(int(os.environ.get("STAND_IN_DEVICES", "1"))).install(pytest.MonkeyPatch())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
