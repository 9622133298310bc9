"""Louvain and Leiden on a GPU, of cuGraph, their resolution tuned to a number of codebook rows.

Unlike scikit-network's (`baco_gpu.baselines.louvain`), they maximise Newman's modularity of the graph of users and
items together, not Barber's bipartite one; secondary labels are those of the most edges. Louvain takes no seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from baco_gpu.baselines.extras import needing
from baco_gpu.baselines.search import KnobSearch
from baco_gpu.baselines.sides import NEITHER, Sides, coclusters
from baco_gpu.graph.bipartite import BipartiteGraph

_RESOLUTIONS = (1e-2, 1e6)


def louvain_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Louvain at the resolution that a number of rows asks for; see `KnobSearch`.

    Raises
    ------
    MissingExtraError
        If cuGraph is not installed.
    """
    return _search("cugraph-louvain", lambda module, network, value: module.louvain(network, resolution=value))(
        graph, secondary
    )


def leiden_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """As `louvain_search`, by cuGraph's Leiden."""
    return _search(
        "cugraph-leiden",
        lambda module, network, value: module.leiden(network, resolution=value, random_state=seed),
    )(graph, secondary)


def _search(
    name: str, partition: Callable[[Any, Any, float], tuple[Any, float]]
) -> Callable[[BipartiteGraph, tuple[bool, bool]], KnobSearch]:
    """`partition` takes the package, its graph and a resolution; it returns a frame of vertices and the modularity."""

    def search(graph: BipartiteGraph, secondary: tuple[bool, bool]) -> KnobSearch:
        with needing("cugraph", name):
            import cudf
            import cugraph
        edges = graph.to_scipy().tocoo()
        columns = {
            "user": edges.row.astype(np.int32),
            "item": (edges.col + graph.num_users).astype(np.int32),
            "weight": edges.data.astype(np.float32),
        }
        network = cugraph.Graph(directed=False)
        network.from_cudf_edgelist(cudf.DataFrame(columns), source="user", destination="item", edge_attr="weight")

        def solve(resolution: float) -> Sides:
            found, _ = partition(cugraph, network, resolution)
            # Nodes without an edge are in no frame; `coclusters` gives them their own label.
            labels = np.zeros(graph.num_users + graph.num_items, dtype=np.int64)
            labels[found["vertex"].to_numpy()] = found["partition"].to_numpy()
            return coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)

        return KnobSearch(name, solve, *_RESOLUTIONS)

    return search
