"""Passes over nodes, which take labels of their neighbors one after another, in random order, in place.

No library stops label propagation at a number of clusters, and a second pass leaves next to none; so the loop is here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.solve.targets import Target
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides, coclusters, number_of

_PASSES = 100
# As members of a label that no node has or leaves: the label keeps its row of that side.
_ALWAYS = 1 << 40


class State:
    """Every node in a cluster of its own, users first, items numbered after them.

    Attributes
    ----------
    arrays : offsets and neighbors of all nodes
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


def stopped_at_rows(
    name: str,
    run: Callable[[State, np.ndarray, int, int], tuple[int, int]],
    graph: BipartiteGraph,
    seed: int,
    secondary: tuple[bool, bool],
) -> Callable[[Target], Sides]:
    """Passes in random order, ended at the step that brings the clusters to the rows asked for.

    UnreachableBudgetError where the passes come to rest before.
    """
    # Nodes without an edge never move, and share one row a side in the end.
    idle = [int((np.asarray(degrees) == 0).sum()) for degrees in (graph.user_degrees, graph.item_degrees)]

    def solve(target: Target) -> Sides:
        state = State(graph)
        rows, spare = number_of(target), 0
        for side, count in enumerate(idle):
            if isinstance(target, tuple) and target[side] is None:
                state.members[:, side] += _ALWAYS
                spare += len(state.labels)
            else:
                spare += max(count - 1, 0)
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
