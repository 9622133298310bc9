"""Clusters of alike users and of alike items for any number of rows, and the names under which they are co-clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import ITEMS, USERS, Backend, NodeWeights, Partition, Problem
from baco_gpu.clustering.bisecting.row_pairs import paired_rows
from baco_gpu.clustering.bisecting.row_tree import RowTree
from baco_gpu.clustering.bisecting.spectral_rows import NO_NODES, spectral_rows
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.by_side import standing_for
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph

Sides = tuple[Assignment, Assignment]


class Bisection:
    """The clusters of both sides for any target; the embedding, and the tree of most rows so far, are made once.

    Parameters
    ----------
    graph, weights : as of `spectral_rows`
    second : pair of bool, whether users, and whether items, have two rows each
    """

    def __init__(
        self, graph: BipartiteGraph, weights: NodeWeights, seed: int, second: tuple[bool, bool] = (True, True)
    ) -> None:
        self.second = second
        self.rows = spectral_rows(graph, weights, seed)
        self.tree = RowTree(self.rows, 1)

    def solve(self, target: Target) -> Sides:
        """Assignments whose labels are the rows of each side alone; a side whose number is left open has one row."""
        if isinstance(target, tuple):  # a tree for each side
            counts = [max(number or 1, 1) for number in target]
            users = RowTree((self.rows[USERS], NO_NODES), counts[USERS]).cut(counts[USERS])[USERS]
            items = RowTree((NO_NODES, self.rows[ITEMS]), counts[ITEMS]).cut(counts[ITEMS])[ITEMS]
        else:
            rows = target or 1
            if rows > self.tree.clusters:
                self.tree = RowTree(self.rows, rows + rows // 16)  # a budget asks for a few more afterwards
            users, items = self.tree.cut(rows)
        return paired_rows(users, pairs=self.second[USERS]), paired_rows(items, pairs=self.second[ITEMS])


def as_coclusters(backend: Backend, problem: Problem, sides: Sides) -> tuple[Partition, tuple[Any, Any]]:
    """A partition of both sides, and their second labels: clusters that stand for one another have one label.

    The side of more clusters names them. A cluster of the other side has the name of one that has most of its edges
    there, of these the one that has most of the edges; where there is none, it has a name of its own.
    """
    counts = [side.labels.max(initial=-1) + 1 for side in sides]
    fine = USERS if counts[USERS] >= counts[ITEMS] else ITEMS
    coarse = 1 - fine
    adjacency, edges = problem.sides[fine], problem.sides[fine].edge_weights
    small = np.repeat(sides[fine].labels.astype(np.int64), np.diff(adjacency.offsets))
    large = sides[coarse].labels.astype(np.int64)[adjacency.neighbors]
    names = standing_for(small, large, np.ones(len(small), np.int64) if edges is None else edges, counts[coarse])
    nameless = np.flatnonzero(names == NO_LABEL)
    names[nameless] = counts[fine] + np.arange(len(nameless))
    number, dtype = counts[fine] + len(nameless), adjacency.neighbors.dtype

    def as_names(labels: np.ndarray, side: int) -> np.ndarray:
        return np.where(labels == NO_LABEL, NO_LABEL, names[labels] if side == coarse else labels).astype(dtype)

    users, items = (as_names(assignment.labels, side) for side, assignment in enumerate(sides))
    user_second, item_second = (
        None if assignment.secondary is None else as_names(assignment.secondary, side)
        for side, assignment in enumerate(sides)
    )
    partition = Partition(
        (users, items),
        backend.volumes(problem, (users, items), number),
        backend.weight_within(problem, (users, items)),
    )
    return partition, (user_second, item_second)
