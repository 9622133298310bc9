"""Label propagation and EBMD: nodes take labels of their neighbours one after another, in random order, in place.

No library stops label propagation at a number of clusters, and a second pass leaves next to none; so the loop is here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.baselines import propagation_kernels as kernels
from baco_gpu.baselines.sides import NEITHER, Sides, coclusters
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph

_PASSES = 100


def label_propagation(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[int], Sides]:
    """Raghavan et al. (Phys. Rev. E 76, 036106): the label most frequent among the neighbours, ties by chance."""

    def run(state: _State, order: np.ndarray, rows: int, salt: int) -> tuple[int, int]:
        return kernels.propagate(*state.arrays, order, graph.num_users, state.labels, state.members, rows, salt)

    return _stopped_at_rows("propagation", run, graph, seed, secondary)


def ebmd(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> Callable[[int], Sides]:
    """Bipartite modularity density (Xu et al., Information Sciences 317, 2015), ascended as BACO's authors do.

    A node's links to a cluster count by the excess `delta` of the cluster's density over the graph's:
    `delta * links - delta^2 * degree * volume / |E|`, the volume that of the cluster's other side; density is the edges
    within over the product of both volumes. Neither the text nor code of that paper was at hand: the gain is not
    checked against them.
    """

    def run(state: _State, order: np.ndarray, rows: int, salt: int) -> tuple[int, int]:
        return kernels.ascend_density(
            *state.arrays, order, graph.num_users, state.labels, state.members, state.volumes, state.inside, rows
        )

    return _stopped_at_rows("ebmd", run, graph, seed, secondary)


class _State:
    """Every node in a cluster of its own, users first, items numbered after them.

    Attributes
    ----------
    arrays : offsets and neighbours of all nodes
    labels : int64 array of shape (nodes,)
    members, volumes : arrays of shape (labels, 2), the users and items of every label, and their degrees in sum
    inside : float64 array of shape (labels,), the edges within every label
    """

    def __init__(self, graph: BipartiteGraph) -> None:
        csr, csc = graph.to("cpu").csr, graph.to("cpu").csc
        offsets = np.concatenate([csr.offsets, csr.offsets[-1] + csc.offsets[1:]])
        neighbors = np.concatenate([csr.neighbors.astype(np.int64) + graph.num_users, csc.neighbors.astype(np.int64)])
        size = graph.num_users + graph.num_items
        self.arrays = (offsets, neighbors)
        self.labels = np.arange(size)
        self.members = np.zeros((size, 2), dtype=np.int64)
        self.members[: graph.num_users, 0] = 1
        self.members[graph.num_users :, 1] = 1
        self.volumes = np.diff(offsets)[:, None] * self.members.astype(np.float64)
        self.inside = np.zeros(size)


def _stopped_at_rows(
    name: str,
    run: Callable[[_State, np.ndarray, int, int], tuple[int, int]],
    graph: BipartiteGraph,
    seed: int,
    secondary: tuple[bool, bool],
) -> Callable[[int], Sides]:
    """Passes in random order, ended at the step that brings the clusters to the rows asked for.

    UnreachableBudgetError where the passes come to rest before.
    """
    # Nodes without an edge never move, and share one row a side in the end.
    idle = [int((np.asarray(degrees) == 0).sum()) for degrees in (graph.user_degrees, graph.item_degrees)]
    spare = sum(max(count - 1, 0) for count in idle)

    def solve(rows: int) -> Sides:
        state = _State(graph)
        for number in range(_PASSES):
            order = np.random.default_rng((seed, number)).permutation(len(state.labels))
            moved, left = run(state, order, rows + spare, seed + number)
            if left <= rows + spare or not moved:
                break
        if left > rows + spare:
            raise UnreachableBudgetError(
                f"{name} comes to rest at {left - spare} codebook rows on this graph, expected at most {rows}"
            )
        labels = (state.labels[: graph.num_users], state.labels[graph.num_users :])
        return coclusters(graph, labels, secondary)

    return solve
