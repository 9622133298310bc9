"""From columns of raw ids to contiguous codes and sorted vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa


def factorize(column: pa.ChunkedArray) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of a column in ascending order.

    Parameters
    ----------
    column : Arrow column of n integers, strings, or dictionaries of strings that all occur; without nulls

    Returns
    -------
    codes : int32 array of shape (n,), int64 for 2**31 distinct values and more
    vocabulary : Vocabulary
        The distinct values, ascending; `vocabulary.decode(codes)` is the column.
    """
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return factorize_integers(column.to_numpy())
    if pa.types.is_dictionary(column.type):
        chunks = column.unify_dictionaries().chunks
    else:
        chunks = [column.combine_chunks().dictionary_encode()]  # one dictionary at once, not one a chunk
    codes, values = _rank(chunks)
    return codes, Vocabulary.from_sorted_strings(values.cast(pa.large_string()))


def factorize_integers(ids: np.ndarray) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of an int64 array of shape (n,) in ascending order; see `factorize`."""
    if len(ids) == 0:
        return np.empty(0, dtype=np.int32), Vocabulary.from_sorted_integers(ids)
    smallest = int(ids.min())
    span = int(ids.max()) - smallest + 1
    if span <= 4 * len(ids):
        # A table of the whole span is smaller than the hash table it replaces, and several times as fast.
        shifted = ids - smallest
        present = np.zeros(span, dtype=bool)
        present[shifted] = True
        values = np.flatnonzero(present)
        rank = np.empty(span, dtype=_index_dtype(len(values)))
        rank[values] = np.arange(len(values))
        values += smallest
        return rank[shifted], Vocabulary.from_sorted_integers(values)
    import pyarrow as pa

    codes, dictionary = _rank([pa.array(ids).dictionary_encode()])
    return codes, Vocabulary.from_sorted_integers(dictionary.to_numpy())


def _rank(chunks: list[pa.DictionaryArray]) -> tuple[np.ndarray, pa.Array]:
    """Codes in the sorted order of the dictionary that all chunks share, and the dictionary in that order."""
    import pyarrow.compute as pc

    dictionary = chunks[0].dictionary
    order = pc.sort_indices(dictionary)
    rank = np.empty(len(order), dtype=_index_dtype(len(order)))
    rank[order.to_numpy()] = np.arange(len(order))
    codes = np.empty(sum(map(len, chunks)), dtype=rank.dtype)
    start = 0
    for chunk in chunks:
        # Every index is valid; "clip" only spares the buffer that "raise" would put before `out`.
        np.take(rank, chunk.indices.to_numpy(), out=codes[start : start + len(chunk)], mode="clip")
        start += len(chunk)
    return codes, dictionary.take(order)


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
    codes, vocabulary = factorize_integers(in_use)
    return np.ascontiguousarray(codes[: len(ids)]), len(vocabulary), vocabulary


def _index_dtype(size: int) -> type[np.signedinteger]:
    return np.int32 if size < 2**31 else np.int64
