"""Interaction matrices whose entries are measured by the degrees of their ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse


def normalised(matrix: Any) -> Any:
    """`D_rows^(-1/2) M D_columns^(-1/2)` of a SciPy sparse matrix, in CSR format; D holds the sums of rows, or columns.

    What spectral co-clustering decomposes (Dhillon, KDD 2001), and what LightGCN propagates over (arXiv 2002.02126,
    equation 3). Rows and columns that sum to zero are zero.
    """
    rows, columns = (sparse.diags(inverse_root(np.asarray(matrix.sum(axis=axis)).ravel())) for axis in (1, 0))
    return (rows @ matrix @ columns).tocsr()


def inverse_root(sums: np.ndarray) -> np.ndarray:
    """1 over the square root of every sum, 0 for a sum of zero."""
    return np.where(sums > 0, np.maximum(sums, np.finfo(np.float64).tiny) ** -0.5, 0.0)
