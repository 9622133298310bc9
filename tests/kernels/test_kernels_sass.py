"""What the compiler makes of shared memory, read from the machine code."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest

from baco_gpu.cuda import loader
from baco_gpu.cuda.plan import Limits
from baco_gpu.errors import BackendUnavailableError

pytestmark = [
    pytest.mark.heavy("compiles kernels for a GPU"),
    pytest.mark.nightly("needs nvdisasm, of the package nvidia-cuda-nvdisasm"),
]

SPIN = (
    "ATOMS.CAST.SPIN"  # an addition to shared memory that is a loop: 32 rounds where all lanes of a warp add to one sum
)


@pytest.fixture(scope="module")
def disassembled(tmp_path_factory):
    """A function that gives the machine code of a unit."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
        loader._nvrtc("90")
    except (importlib.metadata.PackageNotFoundError, BackendUnavailableError) as error:
        pytest.skip(str(error))
    (tool,) = (file.locate() for file in files if file.name == "nvdisasm")
    cubin = tmp_path_factory.mktemp("sass") / "unit.cubin"

    def disassemble(unit):
        # CuPy hands the binary on without its last byte, which is 0.
        cubin.write_bytes(loader.compile_unit(unit, "90", Limits()).binary + b"\0")
        return subprocess.run([tool, "-c", cubin], check=True, capture_output=True, text=True).stdout

    return disassemble


@pytest.mark.parametrize("kernel", ["label_long", "merges_of_clusters"])
def test_counts_of_edges_without_weights_are_added_up_by_one_instruction(disassembled, kernel):
    spins = {}
    for unit in loader.units():
        names = [name for name in unit.names if name.startswith(f"{kernel}<")]
        for weighted in ("false", "true"):
            if any(f" {weighted}" in name for name in names):
                spins.setdefault(weighted, []).append(SPIN in disassembled(unit))
    # That weighted ones have it shows that the name is that of this architecture.
    assert spins == {"false": [False, False], "true": [True, True]}
