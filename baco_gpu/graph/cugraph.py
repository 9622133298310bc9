"""Graphs of cuGraph and handles of pylibcugraph, to and from: users and items as vertices of one undirected graph.

User u is vertex u, item i is vertex num_users + i, and nodes without an edge are vertices as well. Every edge has a
weight, 1 in a graph without weights, as float32 where that holds all of them exactly and as float64 elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.graph.arrays import as_ids, as_weights, import_cupy
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.graph.building import id_dtype

# What to install where a package is missing.
REMEDIES = {
    "cugraph": "pip install cugraph-cu13 (or cugraph-cu12), or conda install -c rapidsai -c conda-forge cugraph",
    "pylibcugraph": "pip install 'baco_gpu[cugraph13]' (or [cugraph12])",
}


class _Edges(NamedTuple):
    """One entry an edge, from the user's vertex to the item's, and every vertex; arrays where the graph's are."""

    sources: Any
    destinations: Any
    weights: Any
    vertices: Any


def to_cugraph(graph: BipartiteGraph) -> Any:
    """Return an undirected `cugraph.Graph` with the columns "source", "destination" and "weight".

    Raises
    ------
    MissingExtraError
        If cugraph is not installed.
    """
    try:
        import cudf
        import cugraph
    except ImportError as error:
        raise _missing("cugraph", "to_cugraph") from error
    edges = _edges_of(graph)
    network = cugraph.Graph(directed=False)
    network.from_cudf_edgelist(
        cudf.DataFrame({"source": edges.sources, "destination": edges.destinations, "weight": edges.weights}),
        source="source",
        destination="destination",
        edge_attr="weight",
        vertices=cudf.Series(edges.vertices),
    )
    return network


def to_pylibcugraph(graph: BipartiteGraph, resource_handle: Any = None) -> Any:
    """Return a symmetric `pylibcugraph.SGGraph` on CuPy's current device.

    Parameters
    ----------
    graph : BipartiteGraph
    resource_handle : pylibcugraph.ResourceHandle, optional
        A new one unless given.

    Raises
    ------
    MissingExtraError
        If pylibcugraph is not installed.
    BackendUnavailableError
        If CuPy or a CUDA device is missing.
    """
    pylibcugraph = _pylibcugraph("to_pylibcugraph")
    put = import_cupy().asarray
    edges = _edges_of(graph)
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


def from_cugraph(
    network: Any, num_users: int, num_items: int | None = None, *, resource_handle: Any = None
) -> BipartiteGraph:
    """Build a graph from one of cuGraph whose vertices are users and items as `to_cugraph` numbers them.

    Parameters
    ----------
    network : cugraph.Graph or pylibcugraph.SGGraph
        Directed or not; an edge that is stored in both directions counts once, a repeated one its summed weights.
    num_users : int
        Vertices below it are users, the others items.
    num_items : int, optional
        As many as the largest vertex that has an edge asks for, unless given.
    resource_handle : pylibcugraph.ResourceHandle, optional
        What an SGGraph is read with; a new one unless given.

    Raises
    ------
    InputError
        If `network` is something else, joins two users or two items, has vertices beyond the sizes, or weighs the two
        directions of an edge differently.
    MissingExtraError
        If pylibcugraph, which reads an SGGraph, is not installed.
    """
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
    directions = (
        BipartiteGraph.from_edges(
            users[kept],
            items[kept],
            None if weights is None else weights[kept],
            num_users=num_users,
            num_items=num_items,
        )
        for kept in (forward, ~forward)
    )
    return _undirected(*directions)


def _undirected(there: BipartiteGraph, back: BipartiteGraph) -> BipartiteGraph:
    """The edges of either direction, those of both once."""
    if not there.num_edges or not back.num_edges:
        return there if there.num_edges else back
    first, second = there.to_scipy(), back.to_scipy()
    shared = first.astype(bool).multiply(second.astype(bool))
    users, items = (first != second).multiply(shared).nonzero()
    if len(users):
        user, item = users[0], items[0]
        raise InputError(
            f"network must weigh both directions of an edge alike, got {first[user, item]:g} from user {user} to item "
            f"{item} and {second[user, item]:g} back"
        )
    return BipartiteGraph.from_scipy(first.maximum(second))


def _edges_of(graph: BipartiteGraph) -> _Edges:
    xp, csr, size = np if graph.device == "cpu" else import_cupy(), graph.csr, graph.num_edges
    dtype = id_dtype(graph.num_users, graph.num_items)
    weights = xp.ones(size, dtype=xp.float32) if csr.weights is None else csr.weights
    with np.errstate(over="ignore"):
        narrow = weights.astype(xp.float32)
    # The user of a place is the number of users, but the first, that begin there or before.
    begins = xp.bincount(csr.offsets[1:-1], minlength=size + 1)[:size]
    return _Edges(
        xp.cumsum(begins).astype(dtype),
        (csr.neighbors + graph.num_users).astype(dtype, copy=False),
        narrow if (narrow == weights).all() else weights,
        xp.arange(graph.num_users + graph.num_items, dtype=dtype),
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
