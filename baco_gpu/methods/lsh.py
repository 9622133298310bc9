"""Locality-sensitive hashing: nodes on the same side of random hyperplanes share a row (Charikar, STOC 2002).

A node is its row (an item its column) of the interaction matrix, as in GraphHash's comparison (arXiv 2412.17245).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.labelled import Labelled

_HYPERPLANES = 64


def locality_sensitive_hashing(graph: BipartiteGraph, rows: Target, seed: int) -> Sides:
    """Buckets of each side: as many as its share of the rows, fewer where that many nodes do not differ."""
    matrix = graph.to_scipy()
    shares = deal_rows((graph.num_users, graph.num_items), rows)
    generator = np.random.default_rng(seed)
    users, items = (
        Assignment(_buckets(side, share, generator))
        for side, share in zip((matrix, matrix.T.tocsr()), shares, strict=True)
    )
    return users, items


def _buckets(matrix: scipy.sparse.csr_array, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Split all buckets by one hyperplane after the other; by the last one, only the largest, to meet the rows."""
    labels = np.zeros(matrix.shape[0], dtype=np.int64)
    for _ in range(_HYPERPLANES):
        sizes = np.bincount(labels)
        above = matrix @ generator.standard_normal(matrix.shape[1]) > 0
        counts = np.bincount(labels, weights=above)
        halved = np.flatnonzero((counts > 0) & (counts < sizes))
        room = rows - len(sizes)
        largest = halved[np.argsort(-sizes[halved], kind="stable")[:room]]
        split = 2 * labels + (above & np.isin(labels, largest))
        labels = np.unique(split, return_inverse=True)[1]
        if len(halved) >= room:
            break
    return labels.astype(np.int32)


METHOD = Labelled(
    name="lsh",
    family="hashing",
    shared="nodes on the same side of random hyperplanes",
    source="GraphHash, arXiv 2412.17245",
    by_side=True,
    solver=lambda graph, seed: lambda rows: locality_sensitive_hashing(graph, rows, seed),
)
