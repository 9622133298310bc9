"""Edge and node weights as integers, so that volumes are exact sums in any order, on any number of threads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends.backend import IntegerEdges, NodeWeights
from baco_gpu.clustering.backends.share import GraphShare
from baco_gpu.clustering.result import WeightScale
from baco_gpu.data.exact_sum import ExactSum
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import Adjacency, BipartiteGraph

SCHEMES = ("degree", "sqrt", "log", "unit", "paper")

# Sums of weights stay below 2**52, where float64 tells neighboring integers apart; 51 bits leave room for rounding.
_SUM_BITS = 51
# Beyond these powers of two a weight or a unit nears the ends of what float64 holds.
_EXPONENTS = (-900, 900)

# The schemes whose weights are a function of the degree that makes fractions.
_TRANSFORMS = {"sqrt": np.sqrt, "log": np.log1p}


def integer_weights(graph: BipartiteGraph | GraphShare, scheme: str = "degree") -> NodeWeights:
    """Turn the weights of a graph on the CPU, or of a share of one, into integers.

    Under "degree", "sqrt" (square root of the degree), "log" (log1p of the degree) and "unit" (1, as in the constant
    Potts model) gamma is a dimensionless resolution: at gamma = 1 one cluster of everything has Q = 0. Under "degree"
    this is Barber's bipartite modularity (Phys. Rev. E 76, 066102). "paper" has w_u = d_u / sqrt(|E|) and
    w_i = d_i / sqrt(n) (arXiv 2604.18351), so that its published gammas can be typed in. Degrees are weighted degrees,
    and |E| is the summed weight of the edges.

    Raises
    ------
    InputError
        For an unknown scheme, for weights whose sum is beyond 2**-900 to 2**900, or so uneven that a positive one
        would be rounded to zero.
    """
    check_choice("weights", scheme, SCHEMES)
    edges, degrees, unit = graph.edges if isinstance(graph, GraphShare) else integer_edges(graph)
    nodes, node_unit = _integer_nodes(degrees, scheme, unit)
    total = float(degrees[0].sum())
    if total == 0.0:
        penalty = 0.0
    elif scheme == "paper":
        penalty = 1.0 / (unit * math.sqrt((total / unit) * graph.num_items))
    else:
        penalty = total / (float(nodes[0].sum()) * float(nodes[1].sum()))
    return NodeWeights(edges, nodes, unit, node_unit, penalty)


def scaled_weights(graph: BipartiteGraph, scale: WeightScale) -> NodeWeights:
    """Integer weights of a graph on the CPU, in the units of a clustering of another one.

    Raises
    ------
    InputError
        For fractional weights where all of that graph's were whole numbers, for positive ones that its unit would round
        to zero, and for sums beyond what its unit leaves room for.
    """
    values = [side.weights for side in (graph.csr, graph.csc)]
    if scale.unit == 1.0 and values[0] is None:
        edges: tuple[Any, Any] = (None, None)
    else:
        scaled = [np.ones(graph.num_edges) if part is None else part for part in values]
        scaled = [part * scale.unit for part in scaled]
        _check_scaled(scaled[0], scale.unit)
        by_user, by_item = (np.rint(part).astype(np.int64) for part in scaled)
        edges = (by_user, by_item)
    sides = zip((graph.csr, graph.csc), edges, strict=True)
    users, items = (
        _scheme_weights(integer_degrees(side, part), scale.scheme, scale.unit, scale.node_unit) for side, part in sides
    )
    return NodeWeights(edges, (users, items), *scale[1:])


def _check_scaled(scaled: np.ndarray, unit: float) -> None:
    fraction = scaled != np.rint(scaled)
    if unit == 1.0 and fraction.any():
        raise InputError(
            "edge weights must be whole numbers, as those of the graph that was clustered are, "
            f"got {scaled[fraction][0]:g}"
        )
    if len(scaled) and not scaled.min() >= 0.5:
        raise InputError(f"edge weights must be at least {0.5 / unit:g}, half a unit, got {scaled.min() / unit:g}")
    if not scaled.sum() < 2.0 ** (_SUM_BITS + 1):
        raise InputError(
            f"edge weights must sum to less than {2.0 ** (_SUM_BITS + 1) / unit:g}, got {scaled.sum() / unit:g}"
        )


class EdgeWeights(NamedTuple):
    """What making integers of edge weights asks of all of them. That of a whole graph follows from those of its parts.

    Attributes
    ----------
    number : int, of edges
    total : ExactSum
    smallest : float, infinite where there is none
    are_whole : bool
        Whether they are whole numbers.
    """

    number: int
    total: ExactSum
    smallest: float
    are_whole: bool

    @classmethod
    def of(cls, weights: np.ndarray) -> EdgeWeights:
        """Those of a float64 array of shape (n,), finite and positive."""
        are_whole = bool((weights == np.rint(weights)).all())
        return cls(len(weights), ExactSum.of(weights), float(weights.min(initial=math.inf)), are_whole)


def integer_edges(graph: BipartiteGraph) -> IntegerEdges:
    """Turn the edge weights of a graph on the CPU into integers, under any scheme the same; see `integer_weights`."""
    adjacencies = graph.csr, graph.csc
    whole = None if graph.csr.weights is None else EdgeWeights.of(graph.csr.weights)
    unit = unit_of(whole)
    by_user, by_item = (rounded(adjacency, whole, unit) for adjacency in adjacencies)
    users, items = (integer_degrees(side, edges) for side, edges in zip(adjacencies, (by_user, by_item), strict=True))
    return IntegerEdges((by_user, by_item), (users, items), unit)


def unit_of(weights: EdgeWeights | None) -> float:
    """What the weights of all edges are multiplied by before they are rounded; see `integer_weights` for errors.

    It is 1 without weights, and where all are whole numbers of a small sum.
    """
    if weights is None or not weights.number:
        return 1.0
    exponent = weights.total.exponent
    if not _EXPONENTS[0] <= exponent <= _EXPONENTS[1]:
        raise InputError(
            f"edge weights must sum to between 2**{_EXPONENTS[0]} and 2**{_EXPONENTS[1]}, got about 2**{exponent - 1}"
        )
    unit = 1.0 if exponent <= _SUM_BITS and weights.are_whole else 2.0 ** (_SUM_BITS - exponent)
    if np.rint(weights.smallest * unit) == 0:
        raise InputError(
            f"edge weights must be at least 2**-{_SUM_BITS + 1} of their sum, "
            f"got {weights.smallest:g} beside a sum of {float(weights.total):g}"
        )
    return unit


def rounded(adjacency: Adjacency, weights: EdgeWeights | None, unit: float) -> Any:
    """The integer weights of some of the edges that `weights` is of: int64 of shape (nnz,), None for 1 everywhere."""
    if weights is None or not weights.number:
        return None
    return np.rint(adjacency.weights * unit).astype(np.int64)


def _integer_nodes(
    degrees: tuple[np.ndarray, np.ndarray], scheme: str, unit: float
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    if scheme in _TRANSFORMS:
        largest = max(_TRANSFORMS[scheme](side / unit).sum() for side in degrees)
        node_unit = 2.0 ** (_SUM_BITS - math.frexp(largest)[1])
    else:
        node_unit = 1.0 if scheme == "unit" else unit
    users, items = (_scheme_weights(side, scheme, unit, node_unit) for side in degrees)
    return (users, items), node_unit


def _scheme_weights(degrees: np.ndarray, scheme: str, unit: float, node_unit: float) -> np.ndarray:
    """The integer weights of nodes from their integer degrees."""
    if scheme in ("degree", "paper"):
        return degrees
    if scheme == "unit":
        return (degrees > 0).astype(np.int64)
    return np.rint(_TRANSFORMS[scheme](degrees / unit) * node_unit).astype(np.int64)


def integer_degrees(adjacency: Adjacency, edges: np.ndarray | None) -> np.ndarray:
    """The summed integer weights of every node's edges."""
    if edges is None:
        return np.diff(adjacency.offsets)
    running = np.concatenate(([0], np.cumsum(edges, dtype=np.int64)))
    return running[adjacency.offsets[1:]] - running[adjacency.offsets[:-1]]
