"""Compiling once, keeping what was compiled, keeping failures: without any CUDA library, the compiler is a fake."""

from __future__ import annotations

import struct
import sys
from types import SimpleNamespace

import pytest

from baco_gpu.cuda import loader
from baco_gpu.cuda.catalogue import SOURCES, instances
from baco_gpu.cuda.launch import CudaLauncher
from baco_gpu.cuda.loader import Compiled, Kernels, cached, unit_of, units
from baco_gpu.cuda.plan import Limits
from baco_gpu.errors import BackendUnavailableError

LIMITS = Limits()


class Device(SimpleNamespace):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class FakeNvrtc:
    @staticmethod
    def getVersion():  # noqa: N802
        return 13, 0


@pytest.fixture
def nvrtc_of(monkeypatch):
    """Lets the compiler make this binary of everything."""

    def use(binary):
        nvrtc = SimpleNamespace(
            createProgram=lambda *facts: "program",
            addNameExpression=lambda program, name: None,
            compileProgram=lambda program, options: None,
            getLoweredName=lambda program, name: f"_{name}",
            getCUBIN=lambda program: binary,
            getProgramLog=lambda program: "",
            destroyProgram=lambda program: None,
            NVRTCError=RuntimeError,
        )
        monkeypatch.setattr(loader, "_nvrtc", lambda architecture: nvrtc)

    return use


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The units that were compiled, in order; the cache is a new folder."""
    done = []

    def compile_unit(unit, architecture, limits):
        done.append((unit, architecture, limits))
        return Compiled(f"{unit} {architecture}\n\0binary".encode(), {name: f"_{name}" for name in unit.names}, "")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(loader, "_nvrtc", lambda architecture: FakeNvrtc)
    monkeypatch.setattr(loader, "compile_unit", compile_unit)
    monkeypatch.setattr(loader, "_functions", lambda compiled: dict(compiled.symbols))
    return done


def test_every_instance_is_in_one_unit():
    assert sorted(name for unit in units() for name in unit.names) == sorted(
        name for source in SOURCES for name in instances(source)
    )
    unit = unit_of("label_long<int, true, SECOND>")
    assert len(unit.names) == 4
    assert all("<int, true, " in name for name in unit.names)


class TestNvrtc:
    """What stands between a device and the compiler, with cause and remedy, before anything is launched."""

    @pytest.fixture
    def nvrtc(self, monkeypatch):
        nvrtc = SimpleNamespace(getVersion=lambda: (13, 0), getSupportedArchs=lambda: [75, 90, 120])
        cuda = SimpleNamespace(
            nvrtc=nvrtc, Device=lambda number=None: Device(id=0, compute_capability=nvrtc.device, attributes={})
        )
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
        monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
        return nvrtc

    def test_missing(self, nvrtc):
        def missing():
            raise RuntimeError("CuPy failed to load libnvrtc.so.13: OSError\nlong story")

        nvrtc.getVersion, nvrtc.device = missing, "90"
        expected = (
            r"^CUDA kernels need NVRTC: CuPy failed to load libnvrtc.so.13: OSError; remedy: pip install 'baco_gpu"
        )
        with pytest.raises(BackendUnavailableError, match=expected):
            CudaLauncher()

    @pytest.mark.parametrize(
        ("device", "remedy"), [("60", "use backend='cpu'"), ("130", "install a newer nvidia-cuda-nvrtc and CuPy")]
    )
    def test_that_does_not_know_the_device(self, nvrtc, device, remedy):
        nvrtc.device = device
        expected = rf"NVRTC 13.0 compiles for sm_75 to sm_120, and the device is sm_{device}; remedy: {remedy}"
        with pytest.raises(BackendUnavailableError, match=expected):
            CudaLauncher()


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_binary_ends_where_its_header_says(nvrtc_of, lacking):
    """CuPy's bindings leave out the last byte, without which disassemblers refuse the file."""
    whole = struct.pack("<32xQ14xHH62s", 64, 56, 1, b"segment").ljust(64 + 56, b"\0")
    nvrtc_of(whole[: len(whole) - lacking])
    assert loader.compile_unit(units()[0], "90", LIMITS).binary == whole


class TestCache:
    def test_a_binary_is_compiled_once_for_each_device_and_limit(self, compiled, tmp_path):
        unit = units()[0]
        first = cached(unit, "90", LIMITS)
        again = cached(unit, "90", LIMITS)
        assert (again.binary, again.symbols) == (first.binary, first.symbols)
        cached(unit, "80", LIMITS)
        cached(unit, "90", Limits(warps=4))
        cached(units()[1], "90", LIMITS)
        assert len(compiled) == 4
        assert len(list((tmp_path / "baco_gpu" / "kernels").iterdir())) == 4

    @pytest.mark.parametrize("damage", [b"", b"\n", b"{}", b'{"sha256": "0"', b"[1]\nx"])
    def test_damaged_files_are_compiled_anew(self, compiled, tmp_path, damage):
        unit = units()[0]
        first = cached(unit, "90", LIMITS)
        (path,) = (tmp_path / "baco_gpu" / "kernels").iterdir()
        for content in (damage, path.read_bytes()[:-1], path.read_bytes() + b"x"):
            path.write_bytes(content)
            assert cached(unit, "90", LIMITS).binary == first.binary
        assert len(compiled) == 4

    def test_kernels_run_where_nothing_can_be_kept(self, compiled, tmp_path):
        (tmp_path / "baco_gpu").write_text("a file where the folder should be")
        with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept in .*kernels"):
            assert cached(units()[0], "90", LIMITS).binary


class TestKernels:
    def test_a_unit_loads_with_its_first_kernel(self, compiled):
        kernels = Kernels("90", LIMITS)
        assert not compiled
        assert kernels["label_tiny<int, false, MOVE>"] == "_label_tiny<int, false, MOVE>"
        assert kernels["label_long<int, false, SECOND>"] == "_label_long<int, false, SECOND>"
        assert len(compiled) == 1

    def test_a_failure_is_kept_with_its_cause(self, compiled, monkeypatch):
        tries = []

        def broken(unit, architecture, limits):
            tries.append(unit)
            raise RuntimeError("label_move.cu(7): error: expected a ';'")

        monkeypatch.setattr(loader, "compile_unit", broken)
        kernels = Kernels("90", LIMITS)
        for _ in range(2):
            with pytest.raises(BackendUnavailableError, match=r"sm_90: label_move\.cu\(7\).*; remedy: ") as caught:
                kernels["label_tiny<int, false, MOVE>"]
            assert isinstance(caught.value.__cause__, RuntimeError)
        assert len(tries) == 1
