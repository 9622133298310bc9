"""Graphs of cuGraph and handles of pylibcugraph, to and from: users and items as vertices of one undirected graph.

User u is vertex u, item i is vertex num_users + i, and nodes without an edge are vertices as well. Every edge has a
weight, 1 in a graph without weights, as float32 where that holds all of them exactly and as float64 elsewhere.

The functions take and give arrays; `BipartiteGraph` has the methods that users call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.graph.arrays import Adjacency, as_ids, as_weights, import_cupy
from baco_gpu.graph.building import compress, id_dtype, side_size

if TYPE_CHECKING:
    from scipy import sparse

# What to install where a package is missing.
REMEDIES = {
    "cugraph": "pip install cugraph-cu13 (or cugraph-cu12), or conda install -c rapidsai -c conda-forge cugraph",
    "pylibcugraph": "pip install 'baco_gpu[cugraph13]' (or [cugraph12])",
}


class Pairs(NamedTuple):
    """The edges of a network by user and item, their weights (None for 1 everywhere), and the sizes of the sides."""

    users: np.ndarray
    items: np.ndarray
    weights: np.ndarray | None
    num_users: int
    num_items: int


class _Edges(NamedTuple):
    """One entry an edge, from the user's vertex to the item's, and every vertex; arrays where the graph's are."""

    sources: Any
    destinations: Any
    weights: Any
    vertices: Any


def to_cugraph(csr: Adjacency, num_items: int) -> Any:
    """The `cugraph.Graph` of the items of every user; see `BipartiteGraph.to_cugraph`."""
    try:
        import cudf
        import cugraph
    except ImportError as error:
        raise _missing("cugraph", "to_cugraph") from error
    edges = _edges_of(csr, num_items)
    network = cugraph.Graph(directed=False)
    network.from_cudf_edgelist(
        cudf.DataFrame({"source": edges.sources, "destination": edges.destinations, "weight": edges.weights}),
        source="source",
        destination="destination",
        edge_attr="weight",
        vertices=cudf.Series(edges.vertices),
    )
    return network


def to_pylibcugraph(csr: Adjacency, num_items: int, resource_handle: Any = None) -> Any:
    """The `pylibcugraph.SGGraph` of the items of every user; see `BipartiteGraph.to_pylibcugraph`."""
    pylibcugraph = _pylibcugraph("to_pylibcugraph")
    put = import_cupy().asarray
    edges = _edges_of(csr, num_items)
    return pylibcugraph.SGGraph(
        resource_handle=pylibcugraph.ResourceHandle() if resource_handle is None else resource_handle,
        graph_properties=pylibcugraph.GraphProperties(is_symmetric=True, is_multigraph=False),
        src_or_offset_array=put(edges.sources),
        dst_or_index_array=put(edges.destinations),
        weight_array=put(edges.weights),
        vertices_array=put(edges.vertices),
        store_transposed=False,
        renumber=True,
        do_expensive_check=False,
        symmetrize=True,
    )


def pairs_of(network: Any, num_users: int, num_items: int | None, resource_handle: Any) -> Pairs:
    """The edges of a network whose vertices are users and items, each once; see `BipartiteGraph.from_cugraph`."""
    check_integer("num_users", num_users, minimum=0)
    sources, destinations, weights = _edge_list(network, resource_handle)
    users, items = np.minimum(sources, destinations), np.maximum(sources, destinations)
    within = np.flatnonzero((users >= num_users) | (items < num_users))
    if len(within):
        first = within[0]
        raise InputError(
            f"network must join users, the vertices below num_users = {num_users}, with items, "
            f"got an edge between {users[first]} and {items[first]}"
        )
    items = items - num_users
    largest = int(items.max(initial=-1))
    num_items = largest + 1 if num_items is None else check_integer("num_items", num_items, minimum=0)
    if largest >= num_items:
        raise InputError(
            f"network must have vertices below num_users + num_items = {num_users + num_items}, "
            f"got {largest + num_users}"
        )
    forward = sources < num_users
    shape = side_size("users", users, num_users, None), side_size("items", items, num_items, None)
    there, back = (
        _matrix(users[kept], items[kept], np.ones(kept.sum()) if weights is None else weights[kept], shape)
        for kept in (forward, ~forward)
    )
    return _undirected(there, back)


def _matrix(users: np.ndarray, items: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """The pairs as a matrix of their weights, repeated ones summed."""
    from scipy.sparse import csr_array

    csr, _ = compress(users, items, weights, *shape, "sum")
    return csr_array((csr.weights, csr.neighbors, csr.offsets), shape=shape)


def _undirected(there: sparse.csr_array, back: sparse.csr_array) -> Pairs:
    """The edges of either direction, those of both once."""
    shared = there.astype(bool).multiply(back.astype(bool))
    users, items = (there != back).multiply(shared).nonzero()
    if len(users):
        user, item = users[0], items[0]
        raise InputError(
            f"network must weigh both directions of an edge alike, got {there[user, item]:g} from user {user} to item "
            f"{item} and {back[user, item]:g} back"
        )
    edges = there.maximum(back).tocoo()
    return Pairs(edges.row, edges.col, None if (edges.data == 1).all() else edges.data, *edges.shape)


def _edges_of(csr: Adjacency, num_items: int) -> _Edges:
    xp, num_users, size = np if isinstance(csr.offsets, np.ndarray) else import_cupy(), csr.num_rows, len(csr.neighbors)
    dtype = id_dtype(num_users, num_items)
    weights = xp.ones(size, dtype=xp.float32) if csr.weights is None else csr.weights
    with np.errstate(over="ignore"):
        narrow = weights.astype(xp.float32)
    # The user of a place is the number of users, but the first, that begin there or before.
    begins = xp.bincount(csr.offsets[1:-1], minlength=size + 1)[:size]
    return _Edges(
        xp.cumsum(begins).astype(dtype),
        (csr.neighbors + num_users).astype(dtype, copy=False),
        narrow if (narrow == weights).all() else weights,
        xp.arange(num_users + num_items, dtype=dtype),
    )


def _edge_list(network: Any, resource_handle: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Sources and destinations of the edges as they are stored, and their weights unless every one is 1."""
    if hasattr(network, "decompress_to_edgelist"):  # a cugraph.Graph that has edges
        frame = network.decompress_to_edgelist()
        columns = [frame[name].to_numpy() if name in frame.columns else None for name in ("src", "dst", "weight")]
    else:
        pylibcugraph = _pylibcugraph("from_cugraph")
        if not isinstance(network, pylibcugraph.SGGraph):
            raise InputError(
                "network must be a cugraph.Graph with edges or a pylibcugraph.SGGraph, got " + type(network).__name__
            )
        handle = pylibcugraph.ResourceHandle() if resource_handle is None else resource_handle
        columns = list(pylibcugraph.decompress_to_edgelist(handle, network, False)[:3])
    if columns[0] is None or columns[1] is None:
        raise InputError("network must have integer vertices, got several columns or names")
    sources, destinations = as_ids("vertices of network", columns[0]), as_ids("vertices of network", columns[1])
    sources, destinations = sources.astype(np.int64), destinations.astype(np.int64)
    if columns[2] is None:
        return sources, destinations, None
    weights = as_weights("weights of network", columns[2], len(sources))
    return sources, destinations, None if (weights == 1).all() else weights


def _pylibcugraph(user: str) -> Any:
    try:
        import pylibcugraph
    except ImportError as error:
        raise _missing("pylibcugraph", user) from error
    return pylibcugraph


def _missing(package: str, user: str) -> MissingExtraError:
    return MissingExtraError(f"{user} needs {package}: {REMEDIES[package]}")
