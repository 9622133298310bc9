"""`import baco_gpu` is quick and light: what is heavy loads with the name that needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import baco_gpu

pytestmark = pytest.mark.heavy("runs commands")

HEAVY = ("cupy", "matplotlib", "numba", "pandas", "pyarrow", "rich", "scipy", "sklearn", "torch", "typer")


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return set(output.split())


def test_the_package_alone_loads_nothing_heavy():
    assert loaded_by("import baco_gpu").isdisjoint({*HEAVY, "numpy"})


def test_a_graph_needs_no_compiler_and_no_framework():
    assert loaded_by("from baco_gpu import BipartiteGraph").isdisjoint(HEAVY)


def test_clustering_needs_no_torch():
    loaded = loaded_by("from baco_gpu import BalancedCoclustering, CoclusteringResult, load_interactions")
    assert loaded.isdisjoint({"cupy", "matplotlib", "rich", "torch", "typer"})


def test_codebooks_need_no_numba():
    assert loaded_by("from baco_gpu import CodebookEmbedding").isdisjoint({"cupy", "numba", "rich", "sklearn", "typer"})


def test_the_import_takes_less_than_a_second():
    code = "import time; start = time.perf_counter(); import baco_gpu; print(time.perf_counter() - start)"
    # The best of three: the first one may read from a cold disk, and any may meet a busy moment of the machine.
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 1.0


@pytest.mark.parametrize("name", baco_gpu.__all__)
def test_every_public_name_resolves_to_what_is_called_so(name: str):
    value = getattr(baco_gpu, name)
    assert name == "__version__" or value.__name__ == name


def test_dir_lists_the_public_names():
    assert dir(baco_gpu) == sorted(baco_gpu.__all__)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'baco_gpu' has no attribute 'BalancedCoclusterer'"):
        _ = baco_gpu.BalancedCoclusterer


def test_an_unknown_name_cannot_be_imported():
    with pytest.raises(ImportError, match="BalancedCoclusterer"):
        from baco_gpu import BalancedCoclusterer  # noqa: F401
