"""From columns of raw ids to sorted vocabularies and contiguous codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.data.vocabulary import Vocabulary


def factorize(column: Any) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of a pandas column in ascending order.

    Parameters
    ----------
    column : pandas Series of shape (n,), of integers or strings, without missing values

    Returns
    -------
    codes : int32 array of shape (n,), int64 beyond 2**31 distinct values
    vocabulary : Vocabulary
        The distinct values, ascending; `vocabulary.decode(codes)` is the column.
    """
    import pandas as pd
    import pyarrow as pa

    codes, values = pd.factorize(column, sort=True)
    if column.dtype.kind in "iu":
        vocabulary = Vocabulary.from_sorted_integers(np.asarray(values, dtype=np.int64))
    else:
        vocabulary = Vocabulary.from_sorted_strings(pa.array(values, type=pa.large_string(), from_pandas=True))
    return codes.astype(np.int32 if len(vocabulary) < 2**31 else np.int64), vocabulary
