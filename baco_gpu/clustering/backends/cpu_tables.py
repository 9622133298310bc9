"""Memory to sum edges by label in, a table for each of the chunks that run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numba
import numpy as np

from baco_gpu.clustering.backends.cpu_nodes import chunk_bounds
from baco_gpu.parallel import run

# What visiting a node costs beside its edges, in edges; and for how many edges a thread is worth waking.
_NODE_COST = 4
_THREAD_COST = 60_000
# So many totals stay in a near cache; more labels are summed in a hash table.
_FEW_LABELS = 1 << 18

_T = TypeVar("_T")
Chunk = tuple[int, int]


class Table(NamedTuple):
    """Memory to sum edges by label in; a loop finds it empty and leaves it so.

    Attributes
    ----------
    keys : integer array of slots, the label in each and -1 where there is none; None where label k has slot k
    totals : int32 or int64 array of slots; 0 in empty ones
    used : int64 array, one place longer than the longest list: the slots taken, in order
    """

    keys: np.ndarray | None
    totals: np.ndarray
    used: np.ndarray


class Tables:
    """Tables that are kept from one loop to the next, and replaced by larger ones where they will not do."""

    def __init__(self) -> None:
        self._kept: list[Table] = []

    @contextmanager
    def taken(
        self, count: int, longest: int, num_labels: int, ids: np.dtype, *, weighted: bool
    ) -> Iterator[list[Table]]:
        """At least so many empty tables for lists of at most `longest` edges."""
        sums = np.int64 if weighted or longest >= 2**31 else np.int32
        dense = num_labels <= _FEW_LABELS
        slots = num_labels if dense else max(4, 1 << (2 * min(longest, num_labels) - 1).bit_length())
        tables, self._kept = self._kept, []  # those of a loop that does not end are not empty
        if tables:
            keys, totals, used = tables[0]
            alike = totals.dtype == sums and (keys is None if dense else keys is not None and keys.dtype == ids)
            if not alike or len(totals) < slots or len(used) <= longest or len(tables) < count:
                tables = []
        if not tables:
            tables = [
                Table(
                    None if dense else np.full(slots, -1, ids), np.zeros(slots, sums), np.empty(longest + 1, np.int64)
                )
                for _ in range(count)
            ]
        yield tables
        self._kept = tables

    def sums(
        self,
        chunks: Sequence[Chunk],
        longest: int,
        num_labels: int,
        ids: np.dtype,
        weights: np.ndarray | None,
        loop: Callable[..., _T],
        *arguments: object,
    ) -> list[_T]:
        """What a loop that sums edges by label returns for each chunk."""
        with self.taken(len(chunks), longest, num_labels, ids, weighted=weights is not None) as tables:
            return run(
                [partial(loop, *chunk, *arguments, *table) for chunk, table in zip(chunks, tables, strict=False)]
            )


def chunks_of(costs: np.ndarray) -> list[Chunk]:
    """Begin and end of chunks of about equal cost, one for every thread that they are worth."""
    threads = numba.get_num_threads()
    if threads > 1:
        threads = min(threads, max(1, int(costs.sum() + _NODE_COST * len(costs)) // _THREAD_COST))
    if threads == 1:
        return [(0, len(costs))]
    return list(pairwise(chunk_bounds(costs + _NODE_COST, threads).tolist()))


def chunks_of_nodes(nodes: np.ndarray, offsets: np.ndarray) -> list[Chunk]:
    """The same for nodes by their edges, which need not be looked at where all that there are are few."""
    if offsets[-1] < 2 * _THREAD_COST:
        return [(0, len(nodes))]
    return chunks_of(offsets[nodes + 1] - offsets[nodes])


def in_chunks(chunks: Sequence[Chunk], loop: Callable[..., _T], *arguments: object) -> list[_T]:
    """What a loop returns for each chunk."""
    return run([partial(loop, *chunk, *arguments) for chunk in chunks])
