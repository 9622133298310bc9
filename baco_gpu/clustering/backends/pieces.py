"""Contraction where the device has no room to sort all edges at once: an external sort.

A piece of the edges at a time becomes pairs of clusters, in order and each once, with summed weights. Pieces add up on
the device as long as there is room; what would not fit goes to the host as a run, and the runs are merged a range of
pairs at a time. Sums are of integers and rows are in no particular order, so the graph of clusters is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.clustering.backends.backend import Array, read
from baco_gpu.cuda.pinned import HostArray, HostMemory


class Room(NamedTuple):
    """What a contraction may take: so many edges, or pairs of clusters, on the device at a time, and host memory."""

    edges: int
    host: HostMemory

    def kept(self, array: np.ndarray) -> HostArray:
        """A copy of an array of NumPy in host memory."""
        copy = self.host(len(array), array.dtype)
        copy.host[:] = array
        return copy


class ClusterRows(NamedTuple):
    """The rows of a graph of clusters, as in `ClusterGraph`."""

    begins: Array
    counts: Array
    neighbors: Array
    weights: Array


class _Run(NamedTuple):
    """Keys in ascending order, each once, and the weight of each, on the host."""

    keys: HostArray
    weights: HostArray


def both_ways(xp: Any, pairs: Array, weights: Array, size: int) -> tuple[Array, Array]:
    """Pairs a * size + b from both ends, b * size + a as well, in ascending order, and the weight of each."""
    if not len(pairs):
        return pairs, weights
    keys = xp.concatenate([pairs, pairs % size * size + pairs // size])
    order = xp.argsort(keys)
    return keys[order], xp.concatenate([weights, weights])[order]


def rows_of(xp: Any, keys: Array, weights: Array, size: int, dtype: Any) -> ClusterRows:
    """The rows of clusters 0 .. size - 1: key row * size + neighbor for every entry, in ascending order."""
    counts = _counts(xp, keys, size)
    return ClusterRows(xp.cumsum(counts) - counts, counts, (keys % max(size, 1)).astype(dtype), weights)


def _counts(xp: Any, keys: Array, size: int) -> Array:
    """How many of the keys each row has."""
    if not len(keys):
        return xp.zeros(size, dtype=xp.int64)
    return xp.diff(xp.searchsorted(keys, xp.arange(size + 1, dtype=xp.int64) * size))


def places_of(backend: Any, begins: Array, counts: Array) -> Array:
    """The places of lists that each begin somewhere, list after list: int64 array of as many as `counts` add up to."""
    xp = backend.xp
    total, num_lists = read(backend, counts.sum(), xp.count_nonzero(counts))
    filled = backend.places(counts > 0, num_lists)
    begins, counts = begins[filled], counts[filled]
    # One further at a time, and from the end of a list to where the next one begins.
    steps = xp.ones(total, dtype=xp.int64)
    steps[(xp.cumsum(counts) - counts)[1:]] = begins[1:] - (begins + counts)[:-1] + 1
    steps[:1] = begins[:1]
    return xp.cumsum(steps)


def pieces_of(
    xp: Any, rows: tuple[Array, Array], size: int, most: int
) -> Iterator[tuple[slice, slice, tuple[Array, Array]]]:
    """Cut `size` places into pieces of `most`: the places of each, its rows, and where they begin and end in it."""
    begins, ends = rows
    starts = range(0, size, most)
    firsts = _numpy(xp.searchsorted(ends, xp.asarray(starts), side="right"))
    lasts = _numpy(xp.searchsorted(begins, xp.asarray(starts) + most, side="left"))
    for start, first, last in zip(starts, firsts.tolist(), lasts.tolist(), strict=True):
        stop, here = min(start + most, size), slice(first, last)
        bounds = (xp.clip(begins[here], start, stop) - start, xp.clip(ends[here], start, stop) - start)
        yield slice(start, stop), here, bounds


class PairSums:
    """Adds up the weights of pairs of clusters that come in pieces.

    Parameters
    ----------
    xp : module, NumPy or CuPy
    summed : function
        From pairs and their weights (None for 1 everywhere) to every pair once, in ascending order, and summed weights.
    size : int
        The number of clusters. A pair of clusters a < b is the number a * size + b.
    room : Room
        No piece may be larger than `room.edges`.
    """

    def __init__(self, xp: Any, summed: Callable[[Array, Array | None], tuple[Any, ...]], size: int, room: Room):
        self._xp = xp
        self._summed = summed
        self._size = size
        self._room = room
        self._pairs, self._weights = xp.empty(0, dtype=xp.int64), xp.empty(0, dtype=xp.int64)
        self._runs: list[_Run] = []

    def add(self, pairs: Array, weights: Array | None) -> None:
        """Add a piece: the pair of every edge, and its weight unless all are 1."""
        xp = self._xp
        pairs, weights = self._summed(pairs, weights)
        if len(self._pairs) + len(pairs) > self._room.edges:
            self._spill()
        if len(self._pairs):
            both = xp.concatenate([self._pairs, pairs]), xp.concatenate([self._weights, weights])
            pairs, weights = self._summed(*both)
        self._pairs, self._weights = pairs, weights

    def rows(self, dtype: Any) -> ClusterRows:
        """The rows of all clusters, on the device if they fit there; ends the collection."""
        if not self._runs:
            return rows_of(self._xp, *self._taken(), self._size, dtype)
        self._spill()
        return self._merged(dtype)

    def _taken(self) -> tuple[Array, Array]:
        """What the device holds, from both ends; it holds nothing after."""
        pairs, weights = self._pairs, self._weights
        self._pairs, self._weights = pairs[:0].copy(), weights[:0].copy()
        return both_ways(self._xp, pairs, weights, self._size)

    def _spill(self) -> None:
        """Move what the device holds to the host."""
        if len(self._pairs):
            self._runs.append(_Run(*(self._room.kept(_numpy(array)) for array in self._taken())))

    def _merged(self, dtype: Any) -> ClusterRows:
        xp, runs = self._xp, self._runs
        total = sum(len(run.keys.host) for run in runs)
        neighbors, weights = self._room.host(total, dtype), self._room.host(total, np.int64)
        counts = xp.zeros(self._size, dtype=xp.int64)
        end = 0
        for slices in ranges([run.keys.host for run in runs], self._room.edges):
            parts = [(run, part) for run, part in zip(runs, slices, strict=True) if part.stop > part.start]
            keys = xp.concatenate([xp.asarray(run.keys.host[part]) for run, part in parts])
            sums = xp.concatenate([xp.asarray(run.weights.host[part]) for run, part in parts])
            keys, sums = self._summed(keys, sums)
            counts += _counts(xp, keys, self._size)
            place = slice(end, end + len(keys))
            neighbors.host[place], weights.host[place] = _numpy(keys % self._size), _numpy(sums)
            end = place.stop
        # Equal pairs of several runs are one now, so that the rest may fit after all.
        fits = end <= 2 * self._room.edges
        found = (xp.array(array.host[:end]) if fits else array.device[:end] for array in (neighbors, weights))
        return ClusterRows(xp.cumsum(counts) - counts, counts, *found)


def ranges(keys: Sequence[np.ndarray], most: int) -> Iterator[list[slice]]:
    """Cut ascending arrays of unique values at the same values, into ranges of at most `most` elements together.

    Ranges come in ascending order. One of each array may be the least that a range has.
    """
    pending = [[slice(0, len(array)) for array in keys]]
    while pending:
        slices = pending.pop()
        lengths = [part.stop - part.start for part in slices]
        longest = max(range(len(keys)), key=lengths.__getitem__)
        if sum(lengths) <= most or lengths[longest] <= 1:
            if any(lengths):
                yield slices
            continue
        middle = keys[longest][(slices[longest].start + slices[longest].stop) // 2]
        cuts = [
            part.start + int(np.searchsorted(array[part], middle)) for array, part in zip(keys, slices, strict=True)
        ]
        pending.append([slice(cut, part.stop) for cut, part in zip(cuts, slices, strict=True)])
        pending.append([slice(part.start, cut) for cut, part in zip(cuts, slices, strict=True)])


def _numpy(array: Array) -> np.ndarray:
    return array.get() if hasattr(array, "get") else array
