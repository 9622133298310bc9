"""Louvain, which takes no seed, and Leiden of cuGraph on a GPU, their resolution tuned to a number of codebook rows.

Unlike scikit-network's (`baco_gpu.methods.modularity`), they maximise Newman's modularity of the graph of users and
items together, not Barber's bipartite one; secondary labels are those of the most edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from baco_gpu.graph.arrays import as_numpy
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package

_RESOLUTIONS = (1e-2, 1e6)
# What cugraph.louvain and cugraph.leiden pass where they are told nothing.
MAX_LEVEL, THRESHOLD, THETA = 100, 1e-7, 1.0

# From a handle, a graph and a resolution: vertices, their clusters, and the modularity.
_Partition = Callable[[Any, Any, float], tuple[Any, Any, float]]


def louvain_on_gpu(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Louvain at the resolution that a number of rows asks for; MissingExtraError where there is no pylibcugraph."""
    with needing("pylibcugraph", "cugraph-louvain"):
        from pylibcugraph import louvain

    def partition(handle: Any, network: Any, resolution: float) -> tuple[Any, Any, float]:
        return louvain(handle, network, MAX_LEVEL, THRESHOLD, resolution, False)

    return _search("cugraph-louvain", graph, secondary, partition)


def leiden_on_gpu(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Leiden at the resolution that a number of rows asks for; as `louvain_on_gpu`."""
    with needing("pylibcugraph", "cugraph-leiden"):
        from pylibcugraph import leiden

    def partition(handle: Any, network: Any, resolution: float) -> tuple[Any, Any, float]:
        return leiden(handle, seed, network, MAX_LEVEL, resolution, THETA, False)

    return _search("cugraph-leiden", graph, secondary, partition)


def _search(name: str, graph: BipartiteGraph, secondary: tuple[bool, bool], partition: _Partition) -> KnobSearch:
    from pylibcugraph import ResourceHandle

    handle = ResourceHandle()
    network = graph.to_pylibcugraph(handle)

    def solve(resolution: float) -> Sides:
        vertices, clusters, _ = partition(handle, network, resolution)
        labels = np.zeros(graph.num_users + graph.num_items, dtype=np.int64)
        labels[as_numpy("vertices", vertices)] = as_numpy("clusters", clusters)
        return coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)

    return KnobSearch(name, solve, *_RESOLUTIONS)


LOUVAIN = Labelled(
    name="cugraph-louvain",
    family="modularity",
    shared="communities of Louvain on a GPU (Newman's modularity, no seed)",
    source="Blondel et al., J. Stat. Mech. P10008, 2008",
    secondary="none",
    solver=louvain_on_gpu,
    requires=Package("pylibcugraph", "pylibcugraph"),
)
LEIDEN = replace(
    LOUVAIN,
    name="cugraph-leiden",
    shared="communities of Leiden on a GPU (Newman's modularity)",
    source="Traag et al., Scientific Reports 9, 2019",
    solver=leiden_on_gpu,
)
