"""Rows of an adjacency that are the same: ids that no clustering can tell apart."""

from __future__ import annotations

import numpy as np

from baco_gpu.compiling import PART, compiled
from baco_gpu.graph.arrays import Adjacency


def first_twins(adjacency: Adjacency) -> np.ndarray:
    """For every row the first row of the same neighbors and edge weights; int64 of shape (rows,).

    A hash brings twins together; rows of the same hash are then compared as they are, so that collisions neither join
    nor part any. Linear in the edges, but for a sort of the rows.
    """
    hashes = row_hashes(adjacency)
    order = np.lexsort((np.arange(len(hashes)), hashes))
    firsts = np.arange(len(hashes))
    _find_firsts(order, hashes, adjacency.offsets, adjacency.neighbors, _bits(adjacency), firsts)
    return firsts


def row_hashes(adjacency: Adjacency) -> np.ndarray:
    """A hash of every row's neighbors and edge weights, uint64 of shape (rows,)."""
    hashes = np.empty(adjacency.num_rows, np.uint64)
    _hash(adjacency.offsets, adjacency.neighbors, _bits(adjacency), hashes)
    return hashes


def _bits(adjacency: Adjacency) -> np.ndarray:
    """The bits of the edge weights, without any where there are none: equal weights, which are positive, have equal."""
    return np.empty(0, np.uint64) if adjacency.weights is None else adjacency.weights.view(np.uint64)


@compiled(nogil=True)
def _hash(offsets: np.ndarray, neighbors: np.ndarray, weights: np.ndarray, hashes: np.ndarray) -> None:
    """Fill in a hash of every row, whose neighbors ascend (FNV-1a, 64 bits, on whole ids and weights)."""
    weighted = len(weights) > 0
    for row in range(len(hashes)):
        value = np.uint64(0xCBF29CE484222325)
        for entry in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(neighbors[entry])) * np.uint64(0x100000001B3)
            if weighted:
                value = (value ^ (weights[entry] >> np.uint64(29)) ^ weights[entry]) * np.uint64(0x100000001B3)
        hashes[row] = value


@compiled(nogil=True, **PART)
def _are_alike(row: int, other: int, offsets: np.ndarray, neighbors: np.ndarray, weights: np.ndarray) -> bool:
    begin, there = offsets[row], offsets[other]
    size = offsets[row + 1] - begin
    if size != offsets[other + 1] - there:
        return False
    for k in range(size):
        if neighbors[begin + k] != neighbors[there + k]:
            return False
        if len(weights) > 0 and weights[begin + k] != weights[there + k]:
            return False
    return True


@compiled(nogil=True)
def _find_firsts(
    order: np.ndarray,
    hashes: np.ndarray,
    offsets: np.ndarray,
    neighbors: np.ndarray,
    weights: np.ndarray,
    firsts: np.ndarray,
) -> None:
    """Let every row have its first twin, where `order` has rows of a hash side by side, by ascending number."""
    for place in range(1, len(order)):
        row = order[place]
        before, first = place - 1, firsts[order[place - 1]]
        while before >= 0 and hashes[order[before]] == hashes[row]:
            if _are_alike(row, first, offsets, neighbors, weights):
                firsts[row] = first
                break
            # A collision: whoever is the first of some others is next.
            before -= 1
            while before >= 0 and firsts[order[before]] != order[before]:
                before -= 1
            first = order[before]
