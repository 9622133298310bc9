"""The outputs that notebooks keep are those of today's code, and they run: small here, as published under nbmake."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from baco_gpu import BalancedCoclustering, BipartiteGraph, load_split
from baco_gpu.errors import MissingExtraError

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

# What is made smaller: the only difference between a notebook and what runs here.
SMALLER = {
    r"%matplotlib inline": "",  # there is no front end to draw in
    r"epochs=\d+": "epochs=1",
    r"repeats=5": "repeats=1",
    r"\(10_000, 40_000, 160_000\)": "(2_000, 4_000)",
    r"200_000, 64, 4096": "2_000, 8, 256",
}


def sources(notebook: Path) -> list[str]:
    """The code of every cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def kept(notebook: Path) -> list[str]:
    """The plain text of every output."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    texts = [output.get("data", {}).get("text/plain", output.get("text", "")) for output in outputs]
    return ["".join(text) for text in texts]


def test_the_clustering_that_is_shown_is_the_one_that_is_found():
    try:
        graph = BipartiteGraph.from_interactions(load_split("movielens-100k").train)
    except MissingExtraError:
        pytest.skip("MovieLens-100K is not installed")
    result = BalancedCoclustering(budget=0.25, embedding_dim=64, random_state=0).fit(graph).result_
    assert repr(result) in kept(NOTEBOOKS[0])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_keeps_its_outputs(notebook: Path):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert len(kept(notebook)) >= 3


@pytest.mark.heavy("runs notebooks")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which the shell takes for itself
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    for code in sources(notebook):
        for pattern, smaller in SMALLER.items():
            code = re.sub(pattern, smaller, code)
        shell.run_cell(code).raise_error()


def test_everything_that_is_made_smaller_is_there():
    code = "\n".join(code for notebook in NOTEBOOKS for code in sources(notebook))
    assert all(re.search(pattern, code) for pattern in SMALLER)
