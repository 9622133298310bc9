"""Spectral co-clustering: k-means on singular vectors, users and items together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.kmeans import k_means
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters, number_of, rows_of
from baco_gpu.methods.common.singular_vectors import inverse_roots, scaled_by, singular_vectors
from baco_gpu.methods.labelled import Labelled

_ATTEMPTS = 6
_TOLERANCE = 0.01


def spectral_coclustering(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[Target], Sides]:
    """Dhillon (KDD 2001): users and items clustered together, by the singular vectors of D_U^-1/2 B D_I^-1/2."""
    matrix = graph.to_scipy()
    scales = [inverse_roots(matrix.sum(axis=axis)) for axis in (1, 0)]
    normalised = scaled_by(matrix, *scales)
    # log2 of the number of clusters, which is at most that of the nodes: Dhillon's rule for any rows asked for.
    count = 1 + math.ceil(math.log2(max(graph.num_users + graph.num_items, 2)))
    left, right = singular_vectors(normalised, count, seed)
    points = np.vstack([scales[0][:, None] * left[:, 1:], scales[1][:, None] * right[:, 1:]])

    known: dict[int, Sides] = {}

    def clustered(clusters: int) -> Sides:
        if clusters not in known:
            labels = k_means(points, clusters, seed)
            known[clusters] = coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)
        return known[clusters]

    def solve(target: Target) -> Sides:
        """A cluster has users, items or both: from rows / 2 clusters upward, until the rows are met from below."""
        rows = number_of(target)
        clusters, tried = max(rows // 2, 1), {}
        for _ in range(_ATTEMPTS):
            sides = clustered(clusters)
            count = rows_of(sides, target)
            tried[count] = sides
            if rows * (1 - _TOLERANCE) <= count <= rows:
                break
            clusters = max(int(clusters * rows * (1 - _TOLERANCE / 2) / count), 1)
        return tried[max((used for used in tried if used <= rows), default=min(tried))]

    return solve


METHOD = Labelled(
    name="spectral-co",
    family="spectral",
    shared="clusters of k-means on singular vectors, users and items together",
    source="Dhillon, KDD 2001",
    secondary="none",
    solver=spectral_coclustering,
)
