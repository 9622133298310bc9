"""Leiden on a GPU, of cuGraph."""

from __future__ import annotations

from typing import Any

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.gpu_modularity import MAX_LEVEL, THETA, search
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package


def leiden_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Leiden at the resolution that a number of rows asks for; see `KnobSearch`."""
    with needing("pylibcugraph", "cugraph-leiden"):
        from pylibcugraph import leiden

    def partition(handle: Any, network: Any, resolution: float) -> tuple[Any, Any, float]:
        return leiden(handle, seed, network, MAX_LEVEL, resolution, THETA, False)

    return search("cugraph-leiden", graph, secondary, partition)


METHOD = Labelled(
    name="cugraph-leiden",
    family="modularity",
    shared="communities of Leiden on a GPU (Newman's modularity)",
    source="Traag et al., Scientific Reports 9, 2019",
    secondary="none",
    solver=leiden_search,
    requires=Package("pylibcugraph", "pylibcugraph"),
)
