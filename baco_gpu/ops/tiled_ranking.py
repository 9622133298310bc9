"""The best items of many rows on a CPU: scores are made in tiles that stay in the cache, rows go to the threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.parallel import run

_ROWS, _ITEMS = 512, 512  # of a tile: 1 MB of float32
_ROOM = 3  # candidates for a place among the best, before these are chosen
_AT_ONCE, _BEST_AT_ONCE = 1 << 12, 1 << 21  # rows, and their best items
NOBODY = -1


def rows_at_once(k: int) -> int:
    """How many rows to rank together by their best k: enough for the threads, and no more than memory has room for."""
    return max(min(_AT_ONCE, _BEST_AT_ONCE // max(k, 1)), 1)


class Hidden(NamedTuple):
    """Items that are not shown to some rows: those of row r are `items[offsets[r]:offsets[r + 1]]`, ascending."""

    offsets: np.ndarray
    items: np.ndarray

    @classmethod
    def nothing(cls, rows: int) -> Hidden:
        return cls(np.zeros(rows + 1, np.int64), np.empty(0, np.int64))


class Best(NamedTuple):
    """Items of shape (rows, k), best first, `NOBODY` where there are no more; and their scores."""

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def nothing(cls, rows: int, k: int) -> Best:
        return cls(np.full((rows, k), NOBODY), np.full((rows, k), -np.inf, np.float32))


class TiledRanking:
    """The best `k` items of each row by inner product; of equal scores the first items are the best.

    Every product of matrices has one shape, whatever the number of threads, and with it one order of its sums; where
    there are fewer rows than a tile has, its shape is theirs.

    Parameters
    ----------
    rows : float32 or float64 array of shape (n, dim)
    k, num_items : int
        How many, and of how many.
    hidden : Hidden
        What is not shown to these rows.
    threads : int, optional
        By default as many as Numba is set to use.
    """

    def __init__(self, rows: np.ndarray, k: int, num_items: int, hidden: Hidden, threads: int | None = None) -> None:
        import numba  # which those who need the names above alone can do without

        from baco_gpu.ops import ranking_loop

        self._loops = ranking_loop
        count, room = len(rows), min(_ROOM * k, num_items) + 1
        self.rows, self.k, self.hidden = rows, k, hidden
        self._tile_rows = min(_ROWS, count)
        self._workers = min(threads or numba.get_num_threads(), -(-count // _ROWS))
        self._cursors = hidden.offsets[:-1].copy()
        self._counts, self._bounds = np.zeros(count, np.int64), np.full(count, -np.inf, rows.dtype)
        self._scores, self._items = np.empty((count, room), rows.dtype), np.empty((count, room), np.int64)

    def see(self, first: int, items: np.ndarray) -> None:
        """Rank the items from `first` on, too: an array of shape (any, dim). They come in ascending order."""
        starts, slices = range(0, len(items), _ITEMS), self._slices()
        parts = [_of_length(items[start : start + _ITEMS], _ITEMS).T for start in starts]

        def work() -> None:
            tile = np.empty((self._tile_rows, _ITEMS), self.rows.dtype)
            for part in slices:
                rows = _of_length(self.rows[part], self._tile_rows)
                for start, some in zip(starts, parts, strict=True):
                    np.matmul(rows, some, out=tile)
                    self._add(part, tile, first + start, min(_ITEMS, len(items) - start))

        self._in_threads(work)

    def best(self) -> Best:
        """The best of all that was seen."""
        best = Best(np.empty((len(self.rows), self.k), np.int64), np.empty((len(self.rows), self.k), self.rows.dtype))
        slices = self._slices()

        def work() -> None:
            for part in slices:
                lists = (array[part] for array in (self._counts, self._scores, self._items, *best))
                self._loops.sort_best(self.k, *lists)

        self._in_threads(work)
        return best

    def _add(self, part: slice, tile: np.ndarray, first: int, count: int) -> None:
        offsets = self.hidden.offsets[part.start : part.stop + 1]
        lists = (array[part] for array in (self._counts, self._bounds, self._scores, self._items))
        self._loops.add_tile(tile, count, first, offsets, self.hidden.items, self._cursors[part], self.k, *lists)

    def _slices(self) -> Iterator[slice]:
        """The rows of a tile after those of another, for threads that take them from one iterator: a list's.

        A generator would fail where a thread asks while another one is inside it.
        """
        count = len(self.rows)
        return iter([slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)])

    def _in_threads(self, work: Any) -> None:
        if self._workers > 1:
            with _one_thread_a_product():
                run([work] * self._workers)
        else:
            work()


def _of_length(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows, and below them zeros."""
    if len(rows) == length:
        return rows
    out = np.zeros((length, rows.shape[1]), rows.dtype)
    out[: len(rows)] = rows
    return out


_lock, _limits, _users = threading.Lock(), ExitStack(), 0


@contextmanager
def _one_thread_a_product() -> Iterator[None]:
    """Have NumPy's products use the thread that asks for them alone: threads of its own would stand in ours' way."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _limits.enter_context(_blas().limit(limits=1))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.close()


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
