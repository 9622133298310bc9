"""Spectral bi-clustering: k-means on singular vectors, users and items apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.kmeans import k_means
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.common.singular_vectors import inverse_roots, scaled_by, singular_vectors
from baco_gpu.methods.labelled import Labelled

_VECTORS = 3


def spectral_biclustering(graph: BipartiteGraph, seed: int) -> Callable[[Target], Sides]:
    """Kluger et al. (Genome Research 13, 2003): users and items clustered apart, in a checkerboard.

    Rows and columns are scaled once by the roots of their sums, the first of the normalisations of the paper. That is
    what scikit-learn's class does to every sparse matrix, by its default too, which is called bistochastic: scaling on
    until all sums are equal leaves singular vectors of few users and items, and clusters that say much less.

    Of several singular vectors scikit-learn picks those nearest to piecewise constant ones; with thousands of pieces
    every vector is, so the leading ones are taken.
    """
    matrix = graph.to_scipy()
    scaled = scaled_by(matrix, *(inverse_roots(matrix.sum(axis=axis)) for axis in (1, 0)))
    left, right = singular_vectors(scaled, 1 + _VECTORS, seed)
    points = (matrix @ right[:, 1:], matrix.T @ left[:, 1:])

    def solve(rows: Target) -> Sides:
        shares = deal_rows((graph.num_users, graph.num_items), rows)
        users, items = (
            Assignment(k_means(side, share, seed).astype(np.int32)) for side, share in zip(points, shares, strict=True)
        )
        return users, items

    return solve


METHOD = Labelled(
    name="spectral-bi",
    family="spectral",
    shared="clusters of k-means on singular vectors, users and items apart",
    source="Kluger et al., Genome Research 13, 2003",
    by_side=True,
    solver=spectral_biclustering,
)
