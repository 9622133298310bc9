"""Clusters of alike users and of alike items, and two rows for every id: see `baco_gpu.clustering.bisecting`."""

from __future__ import annotations

from collections.abc import Callable

from baco_gpu.clustering.backends.backend import ITEMS, USERS
from baco_gpu.clustering.bisecting.row_pairs import paired_rows
from baco_gpu.clustering.bisecting.row_tree import RowTree
from baco_gpu.clustering.bisecting.spectral_rows import NO_NODES, spectral_rows
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides
from baco_gpu.methods.labelled import Labelled


def bisecting(graph: BipartiteGraph, seed: int) -> Callable[[Target], Sides]:
    """Pairs of rows for any target; the embedding, and the tree of most rows so far, are made once."""
    sides = spectral_rows(graph, seed)
    tree = RowTree(sides, 1)

    def solve(target: Target) -> Sides:
        nonlocal tree
        if isinstance(target, tuple):  # a tree for each side; one without a number has one row
            counts = [max(number or 1, 1) for number in target]
            users = RowTree((sides[USERS], NO_NODES), counts[USERS]).cut(counts[USERS])[USERS]
            items = RowTree((NO_NODES, sides[ITEMS]), counts[ITEMS]).cut(counts[ITEMS])[ITEMS]
        else:
            rows = target or 1
            if rows > tree.clusters:
                tree = RowTree(sides, rows)
            users, items = tree.cut(rows)
        return paired_rows(users), paired_rows(items)

    return solve


METHOD = Labelled(
    name="bisecting",
    family="spectral",
    shared="clusters of alike ids (bisecting k-means of singular vectors), and a second row",
    when="shared rows alone, of either model",
    source="bisecting k-means, Steinbach 2000; additive quantization, CVPR 2014",
    solver=bisecting,
    second_rows=True,
    by_side=True,
)
