"""Spectral co-clustering and bi-clustering: k-means on singular vectors of the normalised interaction matrix.

The steps are those of scikit-learn's `SpectralCoclustering` and `SpectralBiclustering`, made of its k-means. The two
classes themselves keep a bool for every pair of a cluster and a node (of a pair of clusters and a node, the second
one), which at thousands of clusters no memory holds; and they cannot reuse the vectors for another number of clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse

from baco_gpu.baselines.kmeans import k_means
from baco_gpu.baselines.sides import NEITHER, Sides, coclusters, deal_rows, rows_of
from baco_gpu.clustering.result import Assignment
from baco_gpu.graph.bipartite import BipartiteGraph

_ATTEMPTS = 6
_TOLERANCE = 0.01
_BISTOCHASTIC_STEPS = 100
_BISTOCHASTIC_CHANGE = 1e-5
_BEST_VECTORS = 3
_ZERO = 1e-9


def spectral_coclustering(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[int], Sides]:
    """Dhillon (KDD 2001): users and items clustered together, by the singular vectors of D_U^-1/2 B D_I^-1/2."""
    matrix = graph.to_scipy()
    scales = [_inverse_root(matrix.sum(axis=axis)) for axis in (1, 0)]
    normalised = _scaled(matrix, *scales)
    # log2 of the number of clusters, which is at most that of the nodes: Dhillon's rule for any rows asked for.
    count = 1 + math.ceil(math.log2(max(graph.num_users + graph.num_items, 2)))
    left, right = _singular_vectors(normalised, count, seed)
    points = np.vstack([scales[0][:, None] * left[:, 1:], scales[1][:, None] * right[:, 1:]])

    known: dict[int, Sides] = {}

    def clustered(clusters: int) -> Sides:
        if clusters not in known:
            labels = k_means(points, clusters, seed)
            known[clusters] = coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)
        return known[clusters]

    def solve(rows: int) -> Sides:
        """A cluster has users, items or both: from rows / 2 clusters upward, until the rows are met from below."""
        clusters, tried = max(rows // 2, 1), {}
        for _ in range(_ATTEMPTS):
            sides = clustered(clusters)
            tried[rows_of(sides)] = sides
            if rows * (1 - _TOLERANCE) <= rows_of(sides) <= rows:
                break
            clusters = max(int(clusters * rows * (1 - _TOLERANCE / 2) / rows_of(sides)), 1)
        return tried[max((used for used in tried if used <= rows), default=min(tried))]

    return solve


def spectral_biclustering(graph: BipartiteGraph, seed: int) -> Callable[[int], Sides]:
    """Kluger et al. (Genome Research 13, 2003): users and items clustered apart, in a bistochastic checkerboard.

    Of several singular vectors scikit-learn picks those nearest to piecewise constant ones; with thousands of pieces
    every vector is, so the leading ones are taken.
    """
    matrix = graph.to_scipy()
    left, right = _singular_vectors(_bistochastic(matrix), 1 + _BEST_VECTORS, seed)
    points = (matrix @ right[:, 1:], matrix.T @ left[:, 1:])

    def solve(rows: int) -> Sides:
        shares = deal_rows((graph.num_users, graph.num_items), rows)
        users, items = (
            Assignment(k_means(side, share, seed).astype(np.int32)) for side, share in zip(points, shares, strict=True)
        )
        return users, items

    return solve


def _singular_vectors(matrix: scipy.sparse.sparray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The leading singular vectors, of the largest value first, as columns; none of a value that is zero."""
    from sklearn.utils.extmath import randomized_svd

    # Many singular values near 1 lie close together: an exact solver takes minutes to tell them apart.
    left, values, right = randomized_svd(matrix, min(count, *matrix.shape), random_state=seed)
    kept = values > _ZERO * values.max(initial=0)
    return left[:, kept], right[kept].T


def _bistochastic(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The matrix with rows, and columns, scaled until all of a side have the same sum."""
    scaled = matrix
    for _ in range(_BISTOCHASTIC_STEPS):
        before = scaled.data
        scaled = _scaled(scaled, *(_inverse_root(scaled.sum(axis=axis)) for axis in (1, 0)))
        if np.linalg.norm(scaled.data - before) < _BISTOCHASTIC_CHANGE:
            break
    return scaled


def _scaled(matrix: scipy.sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> scipy.sparse.csr_array:
    scaled = scipy.sparse.csr_array(matrix, copy=True)
    scaled.data *= np.repeat(rows, np.diff(scaled.indptr)) * columns[scaled.indices]
    return scaled


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    """1 / sqrt of the sums, 0 where a node has no edge."""
    sums = np.asarray(sums, dtype=np.float64)
    return np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)
