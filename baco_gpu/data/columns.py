"""From columns of raw ids to contiguous codes and sorted vocabularies."""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.data.vocabulary import Vocabulary


def factorize(column: Any) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of a column in ascending order.

    Parameters
    ----------
    column : int64 array or pandas Series of shape (n,), of integers or strings, without missing values

    Returns
    -------
    codes : int32 array of shape (n,), int64 for 2**31 distinct values and more
    vocabulary : Vocabulary
        The distinct values, ascending; `vocabulary.decode(codes)` is the column.
    """
    import pandas as pd

    if column.dtype.kind in "iu":
        codes, values = pd.factorize(column, sort=True)
        vocabulary = Vocabulary.from_sorted_integers(np.asarray(values, dtype=np.int64))
    else:
        import pyarrow as pa
        import pyarrow.compute as pc

        # The few distinct strings are ordered by Arrow, by bytes: the same order whatever pandas keeps strings in.
        appearance, values = pd.factorize(column)
        distinct = pa.array(values, type=pa.large_string(), from_pandas=True)
        order = pc.sort_indices(distinct).to_numpy()
        rank = np.empty(len(order), dtype=np.intp)
        rank[order] = np.arange(len(order))
        codes = rank[appearance]
        vocabulary = Vocabulary.from_sorted_strings(distinct.take(pa.array(order)))
    return codes.astype(_index_dtype(len(vocabulary)), copy=False), vocabulary


def contiguous_codes(ids: np.ndarray, further: np.ndarray | None = None) -> tuple[np.ndarray, int, Vocabulary | None]:
    """Keep ids that are exactly 0 .. n - 1, number others in ascending order.

    Parameters
    ----------
    ids : non-negative int64 array of shape (k,)
    further : non-negative int64 array, optional
        More ids that are in use.

    Returns
    -------
    codes : int32 array of shape (k,), int64 for 2**31 ids and more
    size : int
        The number of ids in use.
    vocabulary : Vocabulary or None
        The raw ids; None where `codes` equals `ids`.
    """
    in_use = ids if further is None else np.concatenate([ids, further])
    if len(in_use) == 0:
        return ids.astype(np.int32), 0, None
    size = int(in_use.max()) + 1
    if size <= len(in_use):
        present = np.zeros(size, dtype=bool)
        present[in_use] = True
        if present.all():
            return ids.astype(_index_dtype(size)), size, None
    codes, vocabulary = factorize(in_use)
    return np.ascontiguousarray(codes[: len(ids)]), len(vocabulary), vocabulary


def _index_dtype(size: int) -> type[np.signedinteger]:
    return np.int32 if size < 2**31 else np.int64
