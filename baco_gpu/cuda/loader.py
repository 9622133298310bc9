"""Compiling kernels with NVRTC for the device at hand, on first use, and keeping the binaries on disk.

A file of kernels is compiled in units: its instances for one type of ids or values, with or without weights. The first
solve on a new machine waits for a few units, seconds each; later processes read them from the cache, a folder
`baco_gpu` in XDG_CACHE_HOME or ~/.cache. A failure is kept, so that it is raised again at once, with its cause and
remedy.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from baco_gpu.atomic import replacing
from baco_gpu.cuda.catalogue import KERNELS, instances, source_text
from baco_gpu.cuda.plan import Limits
from baco_gpu.errors import BackendUnavailableError, InputError

_OPTIONS = ("--std=c++17", "--fmad=false")
_REMEDY = "pip install 'baco_gpu[cuda13]', or [cuda12] where the driver is older than CUDA 13"


class Unit(NamedTuple):
    """Instances that are compiled together, by their name expressions."""

    source: str
    names: tuple[str, ...]


class Compiled(NamedTuple):
    """A binary for one architecture, the symbol of every name expression, and what the compiler said."""

    binary: bytes
    symbols: dict[str, str]
    log: str


@functools.cache
def units() -> tuple[Unit, ...]:
    """All units of all files."""
    found: dict[tuple[str, ...], list[str]] = {}
    for source in sorted({kernel.source for kernel in KERNELS.values()}):
        for name in instances(source):
            values = name.partition("<")[2].rstrip(">").split(", ")
            axes = KERNELS[name.partition("<")[0]].axes
            template = dict(zip(axes, values, strict=False))
            key = (source, *(template.get(axis, "") for axis in ("id", "value")), template.get("weighted", "false"))
            found.setdefault(key, []).append(name)
    return tuple(Unit(key[0], tuple(names)) for key, names in found.items())


def unit_of(name: str) -> Unit:
    """The unit that has an instance."""
    return next(unit for unit in units() if name in unit.names)


def options(architecture: str, limits: Limits) -> list[str]:
    """What NVRTC is called with, for an architecture such as "90"."""
    macros = [f"-D{name}={value}" for name, value in limits.macros().items()]
    return [f"-arch=sm_{architecture}", *_OPTIONS, *macros]


def compile_unit(unit: Unit, architecture: str, limits: Limits, *, verbose: bool = False) -> Compiled:
    """Compile a unit with NVRTC; needs CuPy and NVRTC, but no device.

    Raises
    ------
    BackendUnavailableError
        If NVRTC is missing or does not know the architecture.
    RuntimeError
        If the compiler refuses the source, with what it says.
    """
    nvrtc = _nvrtc(architecture)
    program = nvrtc.createProgram(source_text(unit.source), unit.source, (), ())
    try:
        for name in unit.names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, options(architecture, limits) + ["--ptxas-options=-v"] * verbose)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(f"{unit.source} for sm_{architecture}: {nvrtc.getProgramLog(program)}") from error
        symbols = {name: str(nvrtc.getLoweredName(program, name)) for name in unit.names}
        return Compiled(_whole(bytes(nvrtc.getCUBIN(program))), symbols, str(nvrtc.getProgramLog(program)))
    finally:
        nvrtc.destroyProgram(program)


def _whole(binary: bytes) -> bytes:
    """A cubin up to where its header says that its segments end: CuPy takes its last byte, a zero, for a text's."""
    (segments,), (size, count) = struct.unpack_from("<Q", binary, 32), struct.unpack_from("<HH", binary, 54)  # ELF64
    return binary.ljust(segments + size * count, b"\0")


def _nvrtc(architecture: str) -> Any:
    """CuPy's NVRTC bindings, with a library behind them that knows the architecture."""
    try:
        from cupy.cuda import nvrtc

        version = ".".join(map(str, nvrtc.getVersion()))
    except Exception as error:  # CuPy or the library missing, or one that does not fit the other
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendUnavailableError(f"CUDA kernels need NVRTC: {reason}; remedy: {_REMEDY}") from error
    known = [int(number) for number in nvrtc.getSupportedArchs()]
    if int(architecture) not in known:
        remedy = "install a newer nvidia-cuda-nvrtc and CuPy" if int(architecture) > max(known) else "use backend='cpu'"
        raise BackendUnavailableError(
            f"NVRTC {version} compiles for sm_{min(known)} to sm_{max(known)}, and the device is sm_{architecture}; "
            f"remedy: {remedy}"
        )
    return nvrtc


def cache_folder() -> Path:
    """Where binaries are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "baco_gpu" / "kernels"


def cached(unit: Unit, architecture: str, limits: Limits) -> Compiled:
    """The binary of a unit from the cache, or compiled now and put there."""
    version = _nvrtc(architecture).getVersion()
    facts = [list(version), options(architecture, limits), list(unit.names), source_text(unit.source)]
    path = cache_folder() / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}.cubin"
    found = _read(path)
    if found is None:
        found = compile_unit(unit, architecture, limits)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(_header(found) + found.binary)
        except (OSError, InputError) as error:
            warnings.warn(f"compiled kernels cannot be kept in {path.parent}: {error}", RuntimeWarning, stacklevel=2)
    return found


def _header(compiled: Compiled) -> bytes:
    facts = {"sha256": hashlib.sha256(compiled.binary).hexdigest(), "symbols": compiled.symbols}
    return json.dumps(facts).encode() + b"\n"


def _read(path: Path) -> Compiled | None:
    """A binary from the cache; None where there is none, or not what was once written."""
    try:
        header, _, binary = path.read_bytes().partition(b"\n")
        facts = json.loads(header)
        digest, symbols = facts["sha256"], facts["symbols"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Compiled(binary, symbols, "") if digest == hashlib.sha256(binary).hexdigest() else None


class Kernels:
    """The kernels of one device by name expression, each unit loaded when first asked for."""

    def __init__(self, architecture: str, limits: Limits) -> None:
        self.architecture = architecture
        self.limits = limits
        self._functions: dict[str, Any] = {}
        self._failures: dict[Unit, Exception] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            if name not in self._functions:
                self._load(unit_of(name))
            return self._functions[name]

    def _load(self, unit: Unit) -> None:
        if unit not in self._failures:
            try:
                compiled = cached(unit, self.architecture, self.limits)
                self._functions.update(_functions(compiled))
                return
            except Exception as error:  # whatever it is, it will not go away by itself
                self._failures[unit] = error
        cause = self._failures[unit]
        if isinstance(cause, BackendUnavailableError):
            raise BackendUnavailableError(str(cause)) from cause
        raise BackendUnavailableError(
            f"the CUDA kernels of {unit.source} cannot be compiled and loaded for sm_{self.architecture}: {cause}; "
            f"remedy: {_REMEDY}, or do without: backend='cpu' for labels, BACO_TRAINING_KERNELS=off for training"
        ) from cause


def _functions(compiled: Compiled) -> dict[str, Any]:
    """The launchable functions of a binary, on the current device."""
    from cupy.cuda.function import Module

    module = Module()
    module.load(compiled.binary)
    return {name: module.get_function(symbol) for name, symbol in compiled.symbols.items()}


def load(limits: Limits) -> Kernels:
    """The kernels for CuPy's current device, the same ones for all callers.

    Raises
    ------
    BackendUnavailableError
        If NVRTC is missing or does not know the device.
    """
    import cupy

    device = cupy.cuda.Device()
    _nvrtc(device.compute_capability)
    return _kernels_of(device.id, device.compute_capability, limits)


@functools.cache
def _kernels_of(device: int, architecture: str, limits: Limits) -> Kernels:
    return Kernels(architecture, limits)
