"""Louvain on a GPU, of cuGraph, which takes no seed."""

from __future__ import annotations

from typing import Any

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.gpu_modularity import MAX_LEVEL, THRESHOLD, search
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package


def louvain_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Louvain at the resolution that a number of rows asks for; see `KnobSearch`.

    Raises
    ------
    MissingExtraError
        If pylibcugraph is not installed.
    """
    with needing("pylibcugraph", "cugraph-louvain"):
        from pylibcugraph import louvain

    def partition(handle: Any, network: Any, resolution: float) -> tuple[Any, Any, float]:
        return louvain(handle, network, MAX_LEVEL, THRESHOLD, resolution, False)

    return search("cugraph-louvain", graph, secondary, partition)


METHOD = Labelled(
    name="cugraph-louvain",
    family="modularity",
    shared="communities of Louvain on a GPU (Newman's modularity, no seed)",
    source="Blondel et al., J. Stat. Mech. P10008, 2008",
    secondary="none",
    solver=louvain_search,
    requires=Package("pylibcugraph", "pylibcugraph"),
)
