"""Builds the CUDA sources with g++ and runs them on NumPy arrays: a launcher like that of the GPU."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from baco_gpu.clustering.backends.backend import Partition
from baco_gpu.clustering.backends.device import Block, DeviceBackend, DeviceProblem
from baco_gpu.cuda.catalogue import SOURCES, instance, instances, source_text
from baco_gpu.cuda.launch import typed
from baco_gpu.cuda.pinned import HostArray
from baco_gpu.cuda.plan import Limits

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "build" / "cuda_host"
FLAGS = ("-std=c++20", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-ffp-contract=off")
SANITIZERS = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
# Calls of the sanitizer's functions without its library: meter.hpp has them.
METERED = (
    "-DCUDA_HOST_METERED",
    "-fsanitize=thread",
    "-fno-threadsafe-statics",
    "-nodefaultlibs",
    "-lstdc++",
    "-lm",
    "-lc",
    "-lgcc_s",
    "-lgcc",
)

# Tables so small that tiny graphs overflow every one of them.
SMALL = Limits(tiny_degree=3, warp_slots=16, block_slots=32, warps=2, probes=4, hub_bytes=1 << 17)


def compiler() -> str | None:
    return shutil.which("g++")


# The marks of tests that run the CUDA sources on the CPU.
ON_KERNELS = [
    pytest.mark.heavy("runs kernels built for the CPU"),
    pytest.mark.skipif(compiler() is None, reason="needs g++ to build the CUDA sources for the CPU"),
]


def on_kernels(test: Any) -> Any:
    """A test, or a class of tests, with these marks."""
    for mark in ON_KERNELS:
        test = mark(test)
    return test


def build(
    folder: Path, limits: Limits, sources: Sequence[str] = SOURCES, extra: Sequence[str] = (), without: str = "?"
) -> None:
    """Compile sources of the package, each into `folder`/<source>.so; no instances with `without` in their names."""
    for source in sources:
        names = [name for name in instances(source) if without not in name]
        build_text(folder, limits, source, source_text(source), names, extra)


def build_text(
    folder: Path, limits: Limits, source: str, text: str, names: Sequence[str], extra: Sequence[str] = ()
) -> Path:
    """Compile a text with the instances of these names into `folder`/<source>.so, and return that path."""
    code, listing, library = folder / source, folder / f"{source}.instances", folder / f"{source}.so"
    code.write_text(text, encoding="utf-8")
    listing.write_text("".join(f'INSTANCE("{name}", {name})\n' for name in names), encoding="utf-8")
    macros = {**limits.macros(), "CUDA_HOST_SOURCE": f'"{code}"', "CUDA_HOST_INSTANCES": f'"{listing}"'}
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    command = [compiler() or "g++", *FLAGS, *extra, "-Wall", "-Wextra", "-Wno-unknown-pragmas", *defines]
    done = subprocess.run(
        [*command, str(HERE / "library.cpp"), "-o", str(library)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return library


def run_sanitized(module: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own, with the sanitizers' libraries, on the kernels that `folder` has."""
    runtimes = [
        subprocess.run(
            [compiler() or "g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(os.path.isabs(path) for path in runtimes):
        pytest.skip("the compiler has no sanitizers")
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"LD_PRELOAD": " ".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


class HostLauncher:
    """Runs kernels on the CPU, thread blocks and threads in an order that a seed draws anew for every launch."""

    processors = 3

    def __init__(self, libraries: Iterable[Path], limits: Limits, *, seed: int = 1, interrupt: int = 0) -> None:
        self.limits = limits
        self.seed = seed
        self.interrupt = interrupt
        self.launched: set[str] = set()
        self.types: dict[str, str] = {}
        self._entries: dict[str, tuple[Any, int]] = {}
        for path in libraries:
            library = ctypes.CDLL(str(path))
            for function in (library.cuda_host_name, library.cuda_host_types, library.cuda_host_launch):
                function.restype = ctypes.c_char_p
            library.cuda_host_launch.argtypes = [
                *(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint, ctypes.c_uint),
                *(ctypes.c_ulonglong, ctypes.c_uint),
            ]
            for index in range(library.cuda_host_count()):
                name = library.cuda_host_name(index).decode()
                self._entries[name] = (library, index)
                self.types[name] = library.cuda_host_types(index).decode()

    def __call__(self, kernel: str, values: tuple[str, ...], blocks: int, arguments: Sequence[Any]) -> None:
        self.run(instance(kernel, values), blocks, typed(kernel, values, arguments))

    def run(self, name: str, blocks: int, arguments: Sequence[Any]) -> None:
        """Launch by name expression, with arguments of the right types."""
        cells = [_cell(value) for value in arguments]
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        library, index = self._entries[name]
        self.seed += 1
        self.launched.add(name)
        failure = library.cuda_host_launch(index, pointers, blocks, self.limits.threads, self.seed, self.interrupt)
        if failure is not None:
            raise RuntimeError(f"{name}: {failure.decode()}")


def _cell(value: Any) -> np.ndarray:
    """An argument's bytes in memory of their own: the address of an array or a tensor, or the scalar itself."""
    if value is None:
        return np.zeros(1, np.uintp)
    if hasattr(value, "data_ptr"):
        return np.array([value.data_ptr()], np.uintp)
    if isinstance(value, np.ndarray):
        return np.array([value.ctypes.data], np.uintp)
    return np.array([value])


def _shared(limits: Limits, sources: Sequence[str], extra: Sequence[str] = ()) -> tuple[Path, ...]:
    """Libraries that all processes of a run build once between them, and later runs find until a source changes."""
    headers = ["library.cpp", "cuda_host.hpp", *(["meter.hpp"] if extra else [])]
    texts = [*map(source_text, sources), *(HERE.joinpath(name).read_text() for name in headers)]
    names = [name for source in sources for name in instances(source)]
    settings = [compiler(), *FLAGS, *extra, *names, *map(str, limits.macros().items())]
    folder = BUILT / hashlib.sha256("\0".join([*texts, *map(str, settings)]).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    # In an order of its own, so that two processes do not wait for the same library.
    for source in random.Random(os.getpid()).sample(sources, len(sources)):
        library = folder / f"{source}.so"
        with FileLock(folder / f"{source}.lock"):
            if not library.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    build(Path(scratch), limits, [source], extra)
                    Path(scratch, library.name).replace(library)
    return tuple(folder / f"{source}.so" for source in sorted(sources))


def metered_libraries(limits: Limits, sources: Sequence[str]) -> tuple[Path, ...]:
    """Libraries whose kernels count what they read and write; see meter.hpp."""
    return _shared(limits, sources, METERED)


@functools.cache
def small_libraries() -> tuple[Path, ...]:
    """All kernels with the tables of SMALL."""
    return _shared(SMALL, SOURCES)


@functools.cache
def full_libraries() -> tuple[Path, ...]:
    """The kernels that have tables with those that a GPU gets, and the others."""
    full = _shared(Limits(), ["clusters.cu", "label_move.cu", "rounds.cu", "volumes.cu"])
    names = {path.name for path in full}
    return (*full, *(path for path in small_libraries() if path.name not in names))


def host_launcher(*, seed: int = 1, interrupt: int = 0) -> HostLauncher:
    """A launcher of the kernels of SMALL."""
    return HostLauncher(small_libraries(), SMALL, seed=seed, interrupt=interrupt)


def host_backend(limits: Limits = SMALL, *, seed: int = 1, interrupt: int = 0) -> DeviceBackend:
    """A backend on the kernels of SMALL, or of the limits that a GPU gets."""
    libraries = small_libraries() if limits == SMALL else full_libraries()
    return DeviceBackend(np, HostLauncher(libraries, limits, seed=seed, interrupt=interrupt), "host")


def block_of(nodes: np.ndarray, num_nodes: int) -> Block:
    """A block of these nodes of a side, amid the nodes of other blocks, as in a sweep."""
    others = np.setdiff1d(np.arange(num_nodes), nodes)
    begin = len(others) // 2
    dealt = np.concatenate([others[:begin], nodes, others[begin:]])
    return Block(dealt, np.array([begin, begin + len(nodes)]))


def on_host(size, dtype):
    """In the place of pinned memory: beside Python's, so that what is left to count is the device's part."""
    dtype = np.dtype(dtype)
    array = np.ndarray(size, dtype, buffer=mmap.mmap(-1, max(size * dtype.itemsize, 1)))
    return HostArray(array, array)


def with_ids(problem: DeviceProblem, partition: Partition, dtype: Any) -> tuple[DeviceProblem, Partition]:
    """The same problem and partition under another type of ids."""
    users, items = (side._replace(neighbors=side.neighbors.astype(dtype)) for side in problem.sides)
    wide = DeviceProblem((users, items), problem.num_users, problem.num_items)
    wide.plans = problem.plans
    labels = (partition.labels[0].astype(dtype), partition.labels[1].astype(dtype))
    volumes = (partition.volumes[0].copy(), partition.volumes[1].copy())
    return wide, Partition(labels, volumes, partition.within)
