"""Every kernel compiles for every architecture, within limits on registers, shared memory and spills."""

from __future__ import annotations

import re
import struct

import pytest

from baco_gpu.cuda import loader
from baco_gpu.cuda.plan import Limits
from baco_gpu.errors import BackendUnavailableError

pytestmark = pytest.mark.heavy("compiles every kernel for a GPU")

NEWEST = "120"
OTHERS = [
    pytest.param(name, marks=pytest.mark.nightly("compiles for every architecture")) for name in ("80", "90", "100")
]
MOST_REGISTERS = 80  # of 65,536 a multiprocessor: three thread blocks of 256 threads
MOST_SHARED = 24_576  # four thread blocks where a multiprocessor has 100 KB, of which each takes one more
WIDE_SHARED = 32 * 1024  # labels and sums of 64 bits
MOST_SPILLED = 16  # bytes a thread, stored and loaded

ENTRY = re.compile(r"Compiling entry function '(\w+)'")
USE = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")

pytest.importorskip("cupy", reason="needs CuPy")
try:
    loader._nvrtc("90")
except BackendUnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)


def resources(log: str) -> dict[str, tuple[int, int, int]]:
    """Registers, bytes of shared memory, and spilled bytes of every kernel that ptxas speaks of."""
    found = {}
    for part in log.split("ptxas info    : Compiling")[1:]:
        entry = ENTRY.search("Compiling" + part)
        use, shared, spills = USE.search(part), SHARED.search(part), SPILLS.search(part)
        found[entry[1]] = (int(use[1]), int(shared[1]) if shared else 0, sum(map(int, spills.groups())))
    return found


@pytest.mark.parametrize("architecture", [NEWEST, *OTHERS])
def test_every_kernel_compiles_within_its_limits(architecture):
    limits = Limits()
    for unit in loader.units():
        compiled = loader.compile_unit(unit, architecture, limits, verbose=True)
        assert compiled.binary[:4] == b"\x7fELF"
        segments, sections, *sizes = struct.unpack_from("<QQ6xHHHH", compiled.binary, 32)
        ends = segments + sizes[0] * sizes[1], sections + sizes[2] * sizes[3]
        assert len(compiled.binary) == max(ends), "disassemblers refuse a file that ends before its tables do"
        used = resources(compiled.log)
        assert used.keys() >= set(compiled.symbols.values())
        for name, symbol in compiled.symbols.items():
            registers, shared, spilled = used[symbol]
            print(f"sm_{architecture} {name}: {registers} registers, {shared} bytes shared, {spilled} bytes spilled")
            assert registers <= MOST_REGISTERS, name
            assert spilled <= MOST_SPILLED, name
            kernel, _, values = name.partition("<")
            wide, weighted = values.startswith("long long"), "true" in values
            tables = limits.shared_bytes(kernel, 8 if wide else 4, weighted=weighted)
            if kernel == "finish_sums":  # a number a thread
                tables = limits.threads * (8 if values.startswith("double") else 4)
            assert tables <= shared <= tables + 512, name
            assert shared <= (WIDE_SHARED if wide and weighted else MOST_SHARED), name


def test_an_unknown_architecture_is_named():
    with pytest.raises(BackendUnavailableError, match=r"to sm_\d+, and the device is sm_35; remedy: use backend='cpu'"):
        loader.compile_unit(loader.units()[0], "35", Limits())
    with pytest.raises(BackendUnavailableError, match="the device is sm_999; remedy: install a newer"):
        loader.compile_unit(loader.units()[0], "999", Limits())


def test_what_the_compiler_says_is_raised(monkeypatch):
    monkeypatch.setattr(loader, "source_text", lambda source: "this is no C++")
    with pytest.raises(RuntimeError, match=r"hashing\.cu for sm_90: [\s\S]*error"):
        loader.compile_unit(loader.unit_of("block_of_node"), "90", Limits())
