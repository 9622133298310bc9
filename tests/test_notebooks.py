"""The outputs that the notebooks keep are those of today's code; that they run is tested by nbmake (`make test`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco_gpu import BalancedCoclustering, BipartiteGraph, load_split
from baco_gpu.errors import MissingExtraError

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


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
