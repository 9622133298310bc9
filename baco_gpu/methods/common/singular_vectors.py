"""Spectral co-clustering and bi-clustering: k-means on singular vectors of the normalised interaction matrix.

The steps are those of scikit-learn's `SpectralCoclustering` and `SpectralBiclustering`, made of its k-means. The two
classes themselves keep a bool for every pair of a cluster and a node (of a pair of clusters and a node, the second
one), which at thousands of clusters no memory holds; and they cannot reuse the vectors for another number of clusters.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

_ZERO = 1e-9


def singular_vectors(matrix: scipy.sparse.sparray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The leading singular vectors, of the largest value first, as columns; none of a value that is zero."""
    from sklearn.utils.extmath import randomized_svd

    # Many singular values near 1 lie close together: an exact solver takes minutes to tell them apart.
    left, values, right = randomized_svd(matrix, min(count, *matrix.shape), random_state=seed)
    kept = values > _ZERO * values.max(initial=0)
    return left[:, kept], right[kept].T


def scaled_by(matrix: scipy.sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> scipy.sparse.csr_array:
    scaled = scipy.sparse.csr_array(matrix, copy=True)
    scaled.data *= np.repeat(rows, np.diff(scaled.indptr)) * columns[scaled.indices]
    return scaled


def inverse_roots(sums: np.ndarray) -> np.ndarray:
    """1 / sqrt of the sums, 0 where a node has no edge."""
    sums = np.asarray(sums, dtype=np.float64)
    return np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)
