"""How much of a graph its co-clusters hold: the share of interactions whose user and item share a codebook row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from baco_gpu.checks import check_instance
from baco_gpu.clustering.result import NO_LABEL, Assignment, ResultData
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.graph.edges import edge_chunks


class Coverage(NamedTuple):
    """Shares of the edge weight, in [0, 1].

    Attributes
    ----------
    primary : float
        Of edges whose user and item have the same co-cluster.
    with_secondary : float
        Of edges whose user and item share one of their co-clusters, the primary or the secondary one.
    """

    primary: float
    with_secondary: float


def coverage(result: ResultData, graph: BipartiteGraph) -> Coverage:
    """The share of `graph`'s edges that stay inside co-clusters; both are 0 for a graph without edges.

    The graph may be another one than was clustered (held-out interactions, say), of the same users and items.

    Raises
    ------
    InputError
        If the graph has other numbers of users or items than the result.
    """
    check_same_sides(result, graph)
    total = primary = either = 0.0
    for users, items, weights in edge_chunks(graph):
        same = result.users.labels[users] == result.items.labels[items]
        shared = same | _shared_secondary(result.users, result.items, users, items)
        values = np.ones(len(users)) if weights is None else weights
        total += values.sum()
        primary += values[same].sum()
        either += values[shared].sum()
    return Coverage(float(primary / total), float(either / total)) if total else Coverage(0.0, 0.0)


def check_same_sides(result: ResultData, graph: BipartiteGraph) -> None:
    """Raise InputError unless `graph` has as many users and items as `result`."""
    check_instance("graph", graph, BipartiteGraph)
    expected, got = (len(result.users), len(result.items)), (graph.num_users, graph.num_items)
    if expected != got:
        raise InputError(
            f"graph must have the {expected[0]} users and {expected[1]} items of the result, "
            f"got {got[0]} users and {got[1]} items"
        )


def _shared_secondary(users: Assignment, items: Assignment, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Whether a secondary co-cluster of either end is one of the other end's."""
    shared = np.zeros(len(user), dtype=bool)
    if users.secondary is not None:
        shared |= users.secondary[user] == items.labels[item]
    if items.secondary is not None:
        shared |= users.labels[user] == items.secondary[item]
    if users.secondary is not None and items.secondary is not None:
        mine = users.secondary[user]
        shared |= (mine == items.secondary[item]) & (mine != NO_LABEL)
    return shared
