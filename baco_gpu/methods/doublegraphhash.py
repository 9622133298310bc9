"""DoubleGraphHash (arXiv 2412.17245, section 4.3): Louvain, and a second row that is hashed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides
from baco_gpu.methods.hashing import hashed_secondary
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package
from baco_gpu.methods.modularity import louvain_search


def double_graph_hash(graph: BipartiteGraph, seed: int) -> Callable[[Target], Sides]:
    """DoubleGraphHash: Louvain's label and a row drawn by chance; the embedding is the mean of the two."""
    search = louvain_search(graph, seed)

    def solve(rows: Target) -> Sides:
        generator = np.random.default_rng(seed)
        users, items = (_doubled(side.labels, generator) for side in search(rows))
        return users, items

    return solve


def _doubled(labels: np.ndarray, generator: np.random.Generator) -> Assignment:
    second = hashed_secondary(labels, generator)
    return Assignment(labels, np.where(second == labels, NO_LABEL, second))


METHOD = Labelled(
    name="doublegraphhash",
    family="modularity",
    shared="Louvain's row and one drawn, and their mean",
    source="GraphHash, arXiv 2412.17245",
    solver=double_graph_hash,
    second_rows=True,
    requires=Package("sknetwork", "scikit-network"),
)
