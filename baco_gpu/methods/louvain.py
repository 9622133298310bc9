"""Louvain of scikit-network on the bipartite graph, which is GraphHash (arXiv 2412.17245)."""

from __future__ import annotations

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.modularity import ModularityClustering, run, search
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package


def louvain(graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    """One run of scikit-network's Louvain with Barber's bipartite modularity at `resolution`.

    Raises
    ------
    MissingExtraError
        If scikit-network is not installed.
    """
    with needing("scikit-network", "louvain"):
        from sknetwork.clustering import Louvain
    return run(Louvain, graph, resolution, seed)


def louvain_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Louvain at the resolution that a number of rows asks for; see `KnobSearch`."""
    return search("louvain", louvain, graph, seed, secondary)


METHOD = Labelled(
    name="louvain",
    family="modularity",
    shared="communities of Louvain (GraphHash)",
    source="GraphHash, arXiv 2412.17245",
    secondary="none",
    solver=louvain_search,
    requires=Package("sknetwork", "scikit-network"),
)
