"""From columns of raw ids to contiguous codes and sorted vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_LARGEST_STRING_ARRAY = 2**31  # bytes that the 32-bit offsets of an Arrow array of strings reach


def factorize(column: pa.ChunkedArray) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of a column in ascending order.

    A column is hashed once: dictionaries that a reader makes of its pieces would have to be hashed again to become one.
    Hashing and sorting let other threads run, so that two columns may be numbered at the same time.

    Parameters
    ----------
    column : Arrow column of n integers or strings, without nulls

    Returns
    -------
    codes : int32 array of shape (n,), int64 for 2**31 distinct values and more
    vocabulary : Vocabulary
        The distinct values, ascending; `vocabulary.decode(codes)` is the column.
    """
    import pyarrow as pa

    if len(column) == 0:
        return np.empty(0, dtype=np.int32), Vocabulary([])
    if pa.types.is_integer(column.type):
        return _factorize_chunks([chunk.to_numpy() for chunk in column.chunks])
    if not pa.types.is_large_string(column.type) and column.nbytes >= _LARGEST_STRING_ARRAY:
        column = column.cast(pa.large_string())
    codes, values = _ranks(column.dictionary_encode().chunks)
    return codes, Vocabulary.from_sorted_strings(values.cast(pa.large_string()))


def factorize_integers(ids: np.ndarray) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of an int64 array of shape (n,), n > 0, in ascending order; see `factorize`."""
    return _factorize_chunks([ids])


def _factorize_chunks(chunks: list[np.ndarray]) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of several int64 arrays, not all of them empty, as if they were one."""
    chunks = [chunk for chunk in chunks if len(chunk)]
    smallest = min(int(chunk.min()) for chunk in chunks)
    span = max(int(chunk.max()) for chunk in chunks) - smallest + 1
    if span <= 4 * sum(map(len, chunks)):
        # A table of the whole span is smaller than the hash table it replaces, and several times as fast.
        present = np.zeros(span, dtype=bool)
        for chunk in chunks:
            present[chunk - smallest] = True
        values = np.flatnonzero(present)
        rank = np.empty(span, dtype=_index_dtype(len(values)))
        rank[values] = np.arange(len(values))
        values += smallest
        return _taken(rank, chunks, smallest), Vocabulary.from_sorted_integers(values)
    import pyarrow as pa

    codes, dictionary = _ranks(pa.chunked_array(chunks).dictionary_encode().chunks)
    return codes, Vocabulary.from_sorted_integers(dictionary.to_numpy())


def _ranks(chunks: list[pa.DictionaryArray]) -> tuple[np.ndarray, pa.Array]:
    """Codes in the sorted order of the dictionary that all chunks share, and the dictionary in that order."""
    import pyarrow.compute as pc

    dictionary = chunks[0].dictionary
    order = pc.sort_indices(dictionary)
    rank = np.empty(len(order), dtype=_index_dtype(len(order)))
    rank[order.to_numpy()] = np.arange(len(order))
    return _taken(rank, [chunk.indices.to_numpy() for chunk in chunks]), dictionary.take(order)


def _taken(rank: np.ndarray, chunks: list[np.ndarray], first: int = 0) -> np.ndarray:
    """`rank`, which begins with the rank of `first`, at the values of all chunks, as one array."""
    codes = np.empty(sum(map(len, chunks)), dtype=rank.dtype)
    start = 0
    for chunk in chunks:
        # Every index is valid; "clip" only spares the buffer that "raise" would put before `out`.
        indices = chunk - first if first else chunk
        np.take(rank, indices, out=codes[start : start + len(chunk)], mode="clip")
        start += len(chunk)
    return codes


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
