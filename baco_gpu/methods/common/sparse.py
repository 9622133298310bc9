"""Sparse matrices of labels: what several methods ask of every row at once."""

from __future__ import annotations

import numpy as np
import scipy.sparse


def one_hot(labels: np.ndarray, count: int) -> scipy.sparse.csr_array:
    """A one in the column of every node's label: shape (nodes, count)."""
    nodes = len(labels)
    return scipy.sparse.csr_array((np.ones(nodes), labels, np.arange(nodes + 1)), shape=(nodes, count))


def row_best(matrix: scipy.sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """The column of the greatest stored entry of every row, and that entry; the first of several.

    Returns
    -------
    int64 array of columns, -1 for rows without entries; float64 array, -inf for those
    """
    columns = np.full(matrix.shape[0], -1, dtype=np.int64)
    values = np.full(matrix.shape[0], -np.inf)
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if len(filled):
        starts = matrix.indptr[filled]
        values[filled] = np.maximum.reduceat(matrix.data, starts)
        best = matrix.data == np.repeat(values, np.diff(matrix.indptr))
        columns[filled] = np.minimum.reduceat(np.where(best, matrix.indices, matrix.shape[1]), starts)
    return columns, values
