"""Rows of an adjacency that are the same: ids that no clustering can tell apart."""

from __future__ import annotations

import numpy as np

from baco_gpu.compiling import compiled
from baco_gpu.graph.arrays import Adjacency


def first_twins(adjacency: Adjacency) -> np.ndarray:
    """For every row the first row of the same neighbors and edge weights; int64 of shape (rows,).

    A hash brings twins together; rows are then compared as they are, each with the one before it. So rows that differ
    are never taken for twins (a collision of hashes might part some). Linear in the edges, but for a sort of the rows.
    """
    offsets, neighbors, weights = adjacency.offsets, adjacency.neighbors, adjacency.weights
    if weights is None:
        weights = np.empty(0)
    hashes = np.empty(len(offsets) - 1, np.uint64)
    _hash(offsets, neighbors, hashes)
    order = np.lexsort((np.arange(len(hashes)), hashes, np.diff(offsets)))
    firsts = np.arange(len(hashes))
    _find_firsts(order, offsets, neighbors, weights, firsts)
    return firsts


@compiled(nogil=True)
def _hash(offsets: np.ndarray, neighbors: np.ndarray, hashes: np.ndarray) -> None:
    """Fill in a hash of every row's neighbors, which ascend (FNV-1a, 64 bits, on whole ids)."""
    for row in range(len(hashes)):
        value = np.uint64(0xCBF29CE484222325)
        for entry in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(neighbors[entry])) * np.uint64(0x100000001B3)
        hashes[row] = value


@compiled(nogil=True)
def _find_firsts(
    order: np.ndarray, offsets: np.ndarray, neighbors: np.ndarray, weights: np.ndarray, firsts: np.ndarray
) -> None:
    """Let every row have its first twin, where `order` has twins side by side, by ascending number."""
    weighted = len(weights) > 0
    for place in range(1, len(order)):
        row, first = order[place], firsts[order[place - 1]]
        begin, there = offsets[row], offsets[first]
        size = offsets[row + 1] - begin
        same = size == offsets[first + 1] - there
        for k in range(size if same else 0):
            alike = neighbors[begin + k] == neighbors[there + k]
            if not alike or (weighted and weights[begin + k] != weights[there + k]):
                same = False
                break
        if same:
            firsts[row] = first
