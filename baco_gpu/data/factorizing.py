"""From columns of raw ids to contiguous codes and sorted vocabularies."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_LARGEST_STRING_ARRAY = 2**31  # bytes that the 32-bit offsets of an Arrow array of strings reach
_LONG = 2**20  # rows from which a column of strings is worth dividing
_PARTS = 4  # what is divided: two parts at a time are a copy of half the column
_SAMPLE = 1000  # rows that say where to divide
_MOSTLY_DISTINCT = 0.9  # the share of them that differ


Encoded = tuple[np.ndarray, "pa.Array"]


def factorize(*columns: pa.ChunkedArray) -> list[tuple[np.ndarray, Vocabulary]]:
    """Number the distinct values of every column in ascending order; as `encode`, with the values as a vocabulary.

    `vocabulary.decode(codes)` is the column. Neither depends on the number of threads.
    """
    return [(codes, _vocabulary(values)) for codes, values in encode(*columns)]


def encode(*columns: pa.ChunkedArray, ordered: bool = True) -> list[Encoded]:
    """Number the distinct values of every column.

    The columns are numbered at the same time, and so are the parts of a long column of strings: its ids are divided
    where a sample of them is, each part is hashed and sorted for itself, and follows the smaller ones as a whole. Parts
    of the rows, such as the dictionaries that a reader makes, would have ids in common and be hashed again to become
    one.

    Parameters
    ----------
    *columns : Arrow columns of n integers or strings each, without nulls
    ordered : bool
        Whether values are in ascending order; else they are in any, and not sorted for nothing.

    Returns
    -------
    list of pairs
        Codes, an int32 array of shape (n,), int64 for 2**31 distinct values and more; and the distinct values, an Arrow
        array of int64 or large strings, of which `codes` says the positions.
    """
    import pyarrow as pa

    with ThreadPoolExecutor(max(2, min(_PARTS + 1, pa.cpu_count()))) as threads:
        begun = [_begin(column, threads, ordered) for column in columns]
        return [finish() for finish in begun]


def _begin(column: pa.ChunkedArray, threads: Executor, ordered: bool) -> Callable[[], Encoded]:
    """Have threads number a column; return what waits for them and returns its codes and values."""
    import pyarrow as pa

    if len(column) == 0:
        return lambda: (np.empty(0, dtype=np.int32), pa.array([], pa.int64()))
    if pa.types.is_integer(column.type):
        return threads.submit(_encode_integers, [chunk.to_numpy() for chunk in column.chunks], ordered).result
    if not pa.types.is_large_string(column.type) and column.nbytes >= _LARGEST_STRING_ARRAY:
        column = column.cast(pa.large_string())
    codes = np.empty(len(column), dtype=_index_dtype(len(column)))
    bounds = [None, *_bounds(column), None]
    parts = [threads.submit(_number_between, column, low, high, codes, ordered) for low, high in pairwise(bounds)]
    return lambda: _joined(codes, [part.result() for part in parts])


def _bounds(column: pa.ChunkedArray) -> list[pa.Scalar]:
    """The strings that divide the ids of a column into parts of about the same size; none where that does not pay.

    Few ids that come again and again stay in the processor's cache: to hash them is as quick as to divide them.
    """
    import pyarrow as pa

    if len(column) < _LONG:
        return []
    rows = range(0, len(column), max(1, len(column) // _SAMPLE))
    sample = pa.concat_arrays([column.slice(row, 1).chunk(0) for row in rows]).unique().sort()
    if len(sample) < max(_PARTS, _MOSTLY_DISTINCT * len(rows)):
        return []
    return [sample[len(sample) * part // _PARTS] for part in range(1, _PARTS)]


def _number_between(
    column: pa.ChunkedArray, low: pa.Scalar | None, high: pa.Scalar | None, codes: np.ndarray, ordered: bool
) -> tuple[pa.ChunkedArray | None, pa.LargeStringArray]:
    """Number the strings from `low` to below `high`, each without a limit where it is None.

    Writes into `codes` where they stand; returns these rows as an Arrow column of booleans (None for all), and the
    distinct strings.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    limits = [pc.greater_equal(column, low)] if low is not None else []
    limits += [pc.less(column, high)] if high is not None else []
    rows = reduce(pc.and_, limits) if limits else None
    encoded = (column if rows is None else column.filter(rows)).dictionary_encode()
    ranks, values = _ranks(encoded.chunks, ordered)
    codes[... if rows is None else rows.to_numpy()] = ranks
    return rows, values.cast(pa.large_string())


def _joined(codes: np.ndarray, parts: list[tuple[pa.ChunkedArray | None, pa.LargeStringArray]]) -> Encoded:
    """Let the codes of every part follow those of the parts before it; return them and the values of all."""
    import pyarrow as pa

    smaller = 0
    for rows, values in parts:
        if smaller and rows is not None:
            np.add(codes, codes.dtype.type(smaller), out=codes, where=rows.to_numpy())
        smaller += len(values)
    return codes.astype(_index_dtype(smaller), copy=False), pa.concat_arrays([values for _, values in parts])


def factorize_integers(ids: np.ndarray) -> tuple[np.ndarray, Vocabulary]:
    """Number the distinct values of an int64 array of shape (n,), n > 0, in ascending order; see `factorize`."""
    codes, values = _encode_integers([ids])
    return codes, _vocabulary(values)


def _encode_integers(chunks: list[np.ndarray], ordered: bool = True) -> Encoded:
    """Number the distinct values of several int64 arrays, not all of them empty, as if they were one."""
    import pyarrow as pa

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
        return _taken(rank, chunks, smallest), pa.array(values)
    return _ranks(pa.chunked_array(chunks).dictionary_encode().chunks, ordered)


def _vocabulary(values: pa.Array) -> Vocabulary:
    import pyarrow as pa

    if pa.types.is_integer(values.type):
        return Vocabulary.from_sorted_integers(values.to_numpy())
    return Vocabulary.from_sorted_strings(values)


def _ranks(chunks: list[pa.DictionaryArray], ordered: bool) -> Encoded:
    """Codes in the sorted order (or the given one) of the dictionary that all chunks share, and it in that order."""
    import pyarrow.compute as pc

    dictionary = chunks[0].dictionary
    if not ordered:
        return np.concatenate([chunk.indices.to_numpy() for chunk in chunks]), dictionary
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
