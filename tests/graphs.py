"""Small graphs for tests: hypothesis strategies of awkward ones, and the bridge to the reference solver."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.graph.bipartite import BipartiteGraph
from reference_solver import ReferenceGraph


@st.composite
def bipartite_graphs(draw, max_side=14, max_edges=50, weighted=None):
    """Graphs with hubs, isolated nodes, one-sided and empty ones among them; with integer, fractional or no weights."""
    num_users = draw(st.integers(0, max_side))
    num_items = draw(st.integers(0, max_side))
    pairs = []
    if num_users and num_items:
        pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
        pairs = draw(st.lists(pair, max_size=max_edges, unique=True))
    users, items = (np.array([p[side] for p in pairs], dtype=np.int64) for side in (0, 1))
    kind = draw(st.sampled_from(["none", "integer", "fraction"])) if weighted is None else weighted
    values = {
        "none": None,
        "integer": st.integers(1, 5),
        "fraction": st.floats(0.0625, 8.0, allow_nan=False),
    }[kind]
    weights = None
    if values is not None:
        weights = np.array(draw(st.lists(values, min_size=len(pairs), max_size=len(pairs))), dtype=np.float64)
    return BipartiteGraph.from_edges(users, items, weights, num_users=num_users, num_items=num_items)


# Rows to merge down to: of both sides together, of one, or of each.
targets = st.one_of(
    st.none(),
    st.integers(1, 30),
    st.tuples(st.integers(1, 14), st.integers(1, 14) | st.none()),
    st.tuples(st.none(), st.integers(1, 14)),
)


def random_graph(num_users, num_items, num_edges, seed, weighted=False):
    """A graph of random edges whose degrees are uneven on both sides."""
    rng = np.random.default_rng(seed)
    users = (num_users * rng.random(num_edges) ** 2).astype(np.int64)
    items = (num_items * rng.random(num_edges) ** 2).astype(np.int64)
    weights = rng.integers(1, 6, num_edges).astype(np.float64) if weighted else None
    duplicates = "sum" if weighted else "drop"
    return BipartiteGraph.from_edges(
        users, items, weights, num_users=num_users, num_items=num_items, duplicates=duplicates
    )


def graph_of_all_lengths(limits, seed, weighted):
    """Users and items with lists just at, below and beyond every limit, empty ones, and hubs beyond every table."""
    rng = np.random.default_rng(seed)
    edges = sorted({limit + step for limit in limits.longest for step in (-1, 0, 1)})
    lengths = [0, 1, 2, *edges, limits.block_slots + 77, 0]
    others = 2 * limits.block_slots + 131
    users = [np.repeat(place, length) for place, length in enumerate(lengths)]
    items = [rng.choice(others, length, replace=False) for length in lengths]
    small = (rng.integers(len(lengths), len(lengths) + 97, 400), rng.integers(0, others, 400))
    rows, columns = np.concatenate([*users, small[0]]), np.concatenate([*items, small[1]])
    # And the other way round: items with such lists, whose users have short ones.
    shifted = (np.concatenate([rows, columns + 300]), np.concatenate([columns, rows + others + 5]))
    weights = rng.integers(1, 7, len(shifted[0])).astype(float) if weighted else None
    return BipartiteGraph.from_edges(
        *shifted, weights, num_users=others + 333, num_items=others + 333, duplicates="sum" if weighted else "drop"
    )


def reference_of(graph, scheme="degree"):
    """The same graph and integer weights for the reference solver, and the integer weights themselves."""
    weights = integer_weights(graph, scheme)
    users = np.repeat(np.arange(graph.num_users), np.diff(graph.csr.offsets))
    values = np.ones(graph.num_edges, np.int64) if weights.edges[0] is None else weights.edges[0]
    edges = {
        (int(user), int(item)): int(value) for user, item, value in zip(users, graph.csr.neighbors, values, strict=True)
    }
    nodes = tuple(side.tolist() for side in weights.nodes)
    return ReferenceGraph(graph.num_users, graph.num_items, edges, nodes), weights


def write_clicks(file, graph):
    """A table of the graph's edges, users u0, u1, ... and items i0, i1, ...; returns its path."""
    users = np.repeat(np.arange(graph.num_users), graph.user_degrees)
    lines = [f"u{user},i{item}" for user, item in zip(users, graph.csr.neighbors, strict=True)]
    file.write_text("\n".join(["user,item", *lines]))
    return file
