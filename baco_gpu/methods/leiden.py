"""Leiden of scikit-network on the bipartite graph."""

from __future__ import annotations

import ctypes

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.modularity import ModularityClustering, run, search
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package


def leiden(graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    """As `louvain`, by scikit-network's Leiden."""
    with needing("scikit-network", "leiden"):
        from sknetwork.clustering import Leiden
    # Its refinement draws from rand() of the C library, which `random_state` does not reach.
    ctypes.CDLL(None).srand(seed % 2**32)
    return run(Leiden, graph, resolution, seed)


def leiden_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Leiden at the resolution that a number of rows asks for; see `KnobSearch`."""
    return search("leiden", leiden, graph, seed, secondary)


METHOD = Labelled(
    name="leiden",
    family="modularity",
    shared="communities of Leiden",
    source="Traag et al., Scientific Reports 9, 2019",
    secondary="none",
    solver=leiden_search,
    requires=Package("sknetwork", "scikit-network"),
)
