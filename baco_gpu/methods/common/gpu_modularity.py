"""Solvers of cuGraph on a GPU, their resolution tuned to a number of codebook rows.

Unlike scikit-network's (`baco_gpu.methods.common.modularity`), they maximise Newman's modularity of the graph of users
and items together, not Barber's bipartite one; secondary labels are those of the most edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from baco_gpu.graph.arrays import as_numpy
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import Sides, coclusters

_RESOLUTIONS = (1e-2, 1e6)
# What cugraph.louvain and cugraph.leiden pass where they are told nothing.
MAX_LEVEL, THRESHOLD, THETA = 100, 1e-7, 1.0

# From a handle, a graph and a resolution: vertices, their clusters, and the modularity.
_Partition = Callable[[Any, Any, float], tuple[Any, Any, float]]


def search(name: str, graph: BipartiteGraph, secondary: tuple[bool, bool], partition: _Partition) -> KnobSearch:
    from pylibcugraph import ResourceHandle

    handle = ResourceHandle()
    network = graph.to_pylibcugraph(handle)

    def solve(resolution: float) -> Sides:
        vertices, clusters, _ = partition(handle, network, resolution)
        labels = np.zeros(graph.num_users + graph.num_items, dtype=np.int64)
        labels[as_numpy("vertices", vertices)] = as_numpy("clusters", clusters)
        return coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)

    return KnobSearch(name, solve, *_RESOLUTIONS)
