"""Rows that are the same, on whichever ranks they lie."""

from __future__ import annotations

import numpy as np

from baco_gpu.distributed.on_host import OnHost
from baco_gpu.graph import twins
from baco_gpu.graph.arrays import Adjacency


def first_twins(ranks: OnHost, adjacency: Adjacency, bounds: np.ndarray) -> np.ndarray:
    """The first twin of every row of all ranks, as `baco_gpu.graph.twins.first_twins` of the whole.

    Each rank finds the twins among its own rows. Of those that are the first of their kind here, the hashes go to one
    rank each, and so do the rows of which several ranks have the hash.

    Parameters
    ----------
    adjacency : Adjacency
        All rows, of which this rank has bounds[rank] to bounds[rank + 1] - 1; the others are empty.
    """
    begin, end = bounds[ranks.rank : ranks.rank + 2].tolist()
    own = Adjacency(adjacency.offsets[begin : end + 1], adjacency.neighbors, adjacency.weights)
    firsts = twins.first_twins(own)
    leaders = np.flatnonzero(firsts == np.arange(len(firsts)))
    hashes = twins.row_hashes(own)[leaders]
    judges = (hashes % np.uint64(ranks.size)).astype(np.int64)
    order = np.argsort(judges, kind="stable")
    leaders, judges = leaders[order], judges[order]
    leaders, judges = (array[_are_elsewhere(ranks, hashes[order], judges)] for array in (leaders, judges))
    found = np.arange(begin, end)
    found[leaders] = _judged(ranks, own, leaders, judges, begin)
    firsts = found[firsts]
    return np.concatenate(ranks.gather(firsts, np.diff(bounds).tolist()))


def _are_elsewhere(ranks: OnHost, hashes: np.ndarray, judges: np.ndarray) -> np.ndarray:
    """Of which hashes there are others on some rank."""
    counts = _counts(ranks, judges)
    arrived = ranks.exchange(hashes.view(np.int64), counts)
    _, inverse, times = np.unique(arrived, return_inverse=True, return_counts=True)
    answers = (times[inverse] > 1).view(np.uint8)
    return ranks.exchange(answers, np.ascontiguousarray(counts.T)).view(bool)


def _judged(ranks: OnHost, own: Adjacency, rows: np.ndarray, judges: np.ndarray, begin: int) -> np.ndarray:
    """The first twin of these rows among those of all ranks that go to the same judges."""
    counts = _counts(ranks, judges)
    degrees = own.degrees[rows]
    entries = _counts(ranks, np.repeat(judges, degrees))
    places = np.repeat(own.offsets[rows] - np.cumsum(degrees) + degrees, degrees) + np.arange(degrees.sum())
    numbers = ranks.exchange(rows + begin, counts)
    lengths = ranks.exchange(degrees, counts)
    neighbors = ranks.exchange(own.neighbors[places], entries)
    weights = None if own.weights is None else ranks.exchange(own.weights[places], entries)
    # Ranks have rows in ascending order, so that numbers ascend.
    arrived = Adjacency(np.concatenate(([0], np.cumsum(lengths))), neighbors, weights)
    return ranks.exchange(numbers[twins.first_twins(arrived)], np.ascontiguousarray(counts.T))


def _counts(ranks: OnHost, judges: np.ndarray) -> np.ndarray:
    return ranks.table(*np.bincount(judges, minlength=ranks.size).tolist())
