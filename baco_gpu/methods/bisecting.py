"""Clusters of alike users and of alike items, and two rows for every id: see `baco_gpu.clustering.bisecting`."""

from __future__ import annotations

from collections.abc import Callable

from baco_gpu.clustering.bisecting.row_pairs import paired_rows
from baco_gpu.clustering.bisecting.row_tree import RowTree
from baco_gpu.clustering.bisecting.spectral_rows import spectral_rows
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides
from baco_gpu.methods.labelled import Labelled


def bisecting(graph: BipartiteGraph, seed: int) -> Callable[[int], Sides]:
    """Pairs of rows for any number of rows; the embedding of the graph is made once."""
    sides = spectral_rows(graph, seed)

    def solve(rows: int) -> Sides:
        users, items = RowTree(sides, rows).cut(rows)
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
)
