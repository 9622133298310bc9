"""Edge and node weights as integers, so that volumes are exact sums in any order, on any number of threads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_choice
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import Adjacency, BipartiteGraph

SCHEMES = ("degree", "sqrt", "log", "unit", "paper")

# Fractional bits of the square roots and logarithms of degrees.
_NODE_FRACTION_BITS = 16
# Sums of edge weights stay below 2**52, where float64 still tells neighbouring integers apart.
_EDGE_SUM_BITS = 52
_EDGE_FRACTION_BITS = 32


class NodeWeights(NamedTuple):
    """Integer weights of one graph under one scheme.

    Attributes
    ----------
    edges : pair of int64 arrays (in the order of the users' and of the items' edges), or pair of None for 1 everywhere
    nodes : pair of int64 arrays (users, items); a node without edges weighs 0 under every scheme
    unit : float, the integer that stands for an edge weight of 1
    node_unit : float, the integer that stands for a node weight of 1
    penalty_per_gamma : float, what gamma is multiplied by to price a product of two integer volumes in edge units
    """

    edges: tuple[Any, Any]
    nodes: tuple[np.ndarray, np.ndarray]
    unit: float
    node_unit: float
    penalty_per_gamma: float


def integer_weights(graph: BipartiteGraph, scheme: str = "degree") -> NodeWeights:
    """Turn the weights of a graph on the CPU into integers.

    Under "degree", "sqrt" (square root of the degree), "log" (log1p of the degree) and "unit" (1, as in the constant
    Potts model) gamma is a dimensionless resolution: at gamma = 1 one cluster of everything has Q = 0. Under "degree"
    this is Barber's bipartite modularity (Phys. Rev. E 76, 066102). "paper" has w_u = d_u / sqrt(|E|) and
    w_i = d_i / sqrt(n) (arXiv 2604.18351), so that its published gammas can be typed in. Degrees are weighted degrees,
    and |E| is the summed weight of the edges.

    Raises
    ------
    InputError
        For an unknown scheme, or weights so uneven that a positive one would be rounded to zero.
    """
    check_choice("weights", scheme, SCHEMES)
    edges, unit = _integer_edges(graph)
    nodes = (
        _node_weights(graph.csr, edges[0], scheme, unit),
        _node_weights(graph.csc, edges[1], scheme, unit),
    )
    total = float(graph.num_edges if edges[0] is None else edges[0].sum(dtype=np.int64))
    if total == 0.0:
        penalty = 0.0
    elif scheme == "paper":
        penalty = 1.0 / (unit * math.sqrt((total / unit) * graph.num_items))
    else:
        penalty = total / (float(nodes[0].sum()) * float(nodes[1].sum()))
    node_unit = {"degree": unit, "paper": unit, "unit": 1.0}.get(scheme, 2.0**_NODE_FRACTION_BITS)
    return NodeWeights(edges, nodes, unit, node_unit, penalty)


def _integer_edges(graph: BipartiteGraph) -> tuple[tuple[Any, Any], float]:
    by_user, by_item = graph.csr.weights, graph.csc.weights
    if by_user is None or by_item is None or not graph.num_edges:
        return (None, None), 1.0
    if (by_user == np.rint(by_user)).all() and by_user.sum() < 2.0**_EDGE_SUM_BITS:
        fraction_bits = 0
    else:
        integer_bits = max(0, math.frexp(math.fsum(by_user))[1])
        fraction_bits = min(_EDGE_FRACTION_BITS, _EDGE_SUM_BITS - integer_bits)
    unit = 2.0**fraction_bits
    edges = tuple(np.rint(values * unit).astype(np.int64) for values in (by_user, by_item))
    if edges[0].min() <= 0:
        smallest = by_user.min()
        raise InputError(
            f"edge weights must lie within {2.0**-fraction_bits:g} to 2**{_EDGE_SUM_BITS} once summed, "
            f"got a smallest weight of {smallest:g} beside a sum of {by_user.sum():g}"
        )
    return (edges[0], edges[1]), unit


def _node_weights(adjacency: Adjacency, edges: np.ndarray | None, scheme: str, unit: float) -> np.ndarray:
    offsets = adjacency.offsets
    if edges is None:
        degrees = np.diff(offsets)
    else:
        running = np.concatenate(([0], np.cumsum(edges, dtype=np.int64)))
        degrees = running[offsets[1:]] - running[offsets[:-1]]
    if scheme in ("degree", "paper"):
        return degrees
    if scheme == "unit":
        return (degrees > 0).astype(np.int64)
    transform = np.sqrt if scheme == "sqrt" else np.log1p
    return np.rint(transform(degrees / unit) * 2.0**_NODE_FRACTION_BITS).astype(np.int64)
