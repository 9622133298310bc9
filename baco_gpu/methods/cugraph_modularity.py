"""Louvain, which takes no seed, and Leiden of cuGraph on a GPU, their resolution tuned to a number of codebook rows.

Unlike scikit-network's (`baco_gpu.methods.modularity`), they maximise Newman's modularity of the graph of users and
items together, not Barber's bipartite one; secondary labels are those of the most edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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

# From a handle, a graph, a resolution and a seed: vertices, their clusters, and the modularity.
_Partition = Callable[[Any, Any, float, int], tuple[Any, Any, float]]


def _louvain(handle: Any, network: Any, resolution: float, seed: int) -> tuple[Any, Any, float]:
    from pylibcugraph import louvain

    return louvain(handle, network, MAX_LEVEL, THRESHOLD, resolution, False)


def _leiden(handle: Any, network: Any, resolution: float, seed: int) -> tuple[Any, Any, float]:
    from pylibcugraph import leiden

    return leiden(handle, seed, network, MAX_LEVEL, resolution, THETA, False)


def _search(
    name: str, partition: _Partition, graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> KnobSearch:
    """One of the two at the resolution that a number of rows asks for; MissingExtraError without pylibcugraph."""
    with needing("pylibcugraph", name):
        from pylibcugraph import ResourceHandle

    handle = ResourceHandle()
    network = graph.to_pylibcugraph(handle)

    def solve(resolution: float) -> Sides:
        vertices, clusters, _ = partition(handle, network, resolution, seed)
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
    solver=partial(_search, "cugraph-louvain", _louvain),
    requires=Package("pylibcugraph", "pylibcugraph"),
)
LEIDEN = replace(
    LOUVAIN,
    name="cugraph-leiden",
    shared="communities of Leiden on a GPU (Newman's modularity)",
    source="Traag et al., Scientific Reports 9, 2019",
    solver=partial(_search, "cugraph-leiden", _leiden),
)
