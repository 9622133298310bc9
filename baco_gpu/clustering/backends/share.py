"""What one of several processes holds of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import IntegerEdges
from baco_gpu.data.sources.dealing import cuts
from baco_gpu.graph.arrays import Adjacency
from baco_gpu.graph.bipartite import BipartiteGraph

_NODE_COST = 4  # what a node costs beside its edges, in edges


@dataclass(frozen=True, eq=False, repr=False)
class GraphShare:
    """The edges of some users and of some items, and what is known of the whole graph. On the CPU.

    Attributes
    ----------
    own : BipartiteGraph
        All users and items under their numbers, without edge weights. The users of this share have their edges in
        `own.csr`, its items theirs in `own.csc`; those of other shares have none.
    edges : IntegerEdges
        The integer weights of these edges, and the degrees of all nodes.
    bounds : pair of int64 arrays of shape (shares + 1,)
        Share r has the users bounds[0][r] to bounds[0][r + 1] - 1; so for items.
    twins : pair of int64 arrays, the first twin of every user and of every item, in the whole graph
    user_degrees, item_degrees : int64 arrays, the number of edges of every node
    num_edges : int, of the whole graph
    total_weight : float, of the whole graph
    sha256 : str, the checksum of the whole graph
    """

    own: BipartiteGraph
    edges: IntegerEdges
    bounds: tuple[np.ndarray, np.ndarray]
    twins: tuple[np.ndarray, np.ndarray]
    user_degrees: np.ndarray
    item_degrees: np.ndarray
    num_edges: int
    total_weight: float
    sha256: str

    @property
    def num_users(self) -> int:
        return self.own.num_users

    @property
    def num_items(self) -> int:
        return self.own.num_items

    @property
    def user_vocabulary(self) -> Any:
        return self.own.user_vocabulary

    @property
    def item_vocabulary(self) -> Any:
        return self.own.item_vocabulary

    def checksum(self) -> str:
        """That of the whole graph, as `BipartiteGraph.checksum`."""
        return self.sha256

    def first_twins(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the whole graph, as `BipartiteGraph.first_twins`."""
        return self.twins

    def to(self, device: str) -> GraphShare:
        return self


def share_of(graph: BipartiteGraph, edges: IntegerEdges, rank: int, bounds: Sequence[np.ndarray]) -> GraphShare:
    """Share number `rank` of a graph on the CPU that is cut at `bounds`; it keeps none of the graph's edge arrays.

    `edges` are the integer weights of the whole graph.
    """
    (csr, by_user), (csc, by_item) = (
        _own_rows(adjacency, values, *places[rank : rank + 2])
        for adjacency, values, places in zip((graph.csr, graph.csc), edges.weights, bounds, strict=True)
    )
    users, items = bounds
    return GraphShare(
        own=BipartiteGraph(csr, csc, graph.user_vocabulary, graph.item_vocabulary),
        edges=edges._replace(weights=(by_user, by_item)),
        bounds=(users, items),
        twins=graph.first_twins(),
        user_degrees=graph.user_degrees,
        item_degrees=graph.item_degrees,
        num_edges=graph.num_edges,
        total_weight=graph.total_weight,
        sha256=graph.checksum(),
    )


def _own_rows(adjacency: Adjacency, values: Any, first: int, last: int) -> tuple[Adjacency, Any]:
    """The rows first to last - 1, all others without an entry, and the values of the entries."""
    begin, end = adjacency.offsets[first], adjacency.offsets[last]
    offsets = np.clip(adjacency.offsets, begin, end) - begin
    own = None if values is None else values[begin:end].copy()
    return Adjacency(offsets, adjacency.neighbors[begin:end].copy(), None), own


def even_bounds(graph: BipartiteGraph, shares: int) -> tuple[np.ndarray, np.ndarray]:
    """Where to cut the users and the items so that all shares cost about the same: int64 arrays of shape (shares + 1,).

    The users of a share are neighbors by number, and so are its items. One whose edges are more than a share's cannot
    be cut.
    """
    return even_cuts(graph.user_degrees, shares), even_cuts(graph.item_degrees, shares)


def even_cuts(degrees: np.ndarray, shares: int) -> np.ndarray:
    """Where to cut nodes of these degrees; see `even_bounds`."""
    return cuts(degrees + _NODE_COST, shares)
