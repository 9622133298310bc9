"""Bisecting k-means over both sides at once, until there are as many clusters as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from baco_gpu.clustering.bisecting.spectral_rows import SpectralRows
from baco_gpu.clustering.bisecting.tree_loops import divide, variance_around_mean
from baco_gpu.compiling import on_threads

# Clusters that would gain at least so much of what the best one gains are divided in one round.
_NEARLY_BEST = 0.8


class SideClusters(NamedTuple):
    """The clusters of one side.

    Attributes
    ----------
    rows, weights : as of `SpectralRows`
    labels : int64 array of shape (nodes,), the cluster of every node, such that clusters near each other in the tree
        have numbers near each other
    """

    rows: np.ndarray
    weights: np.ndarray
    labels: np.ndarray


class RowTree:
    """Users and items divided again and again: the cluster first whose division takes away the most variance.

    Variance is that of the members' rows around their weighted mean, over the variance of the whole side, so that each
    side gets as many clusters as serve it. (Steinbach, Karypis and Kumar, 2000, divide the largest cluster.) A cluster
    is cut across its principal direction, and the cut is mended by steps of 2-means. Nodes of the same row are never
    parted, so that there can be fewer clusters than asked for. The clusters for fewer rows are those for more before
    their last divisions.

    Parameters
    ----------
    sides : the rows of users and of items
    clusters : int, of both sides together; at least one a side that has nodes

    Attributes
    ----------
    members : int64 array of shape (nodes,), users first, such that every node of the tree has a run of them
    starts, ends : int64 arrays, that run of every node of the tree
    divided : int64 array, the nodes of the tree that are divided, in order; the parts of the k-th are the nodes
        `roots + 2 * k` and `roots + 2 * k + 1`
    roots : int, how many sides have nodes
    clusters : int, as given: the most that `cut` makes
    """

    def __init__(self, sides: Sequence[SpectralRows], clusters: int) -> None:
        self.sides, self.clusters = sides, clusters
        self.rows = np.concatenate([side.rows for side in sides])
        self.weights = np.concatenate([_shares(side) for side in sides])
        self.members = np.arange(len(self.rows), dtype=np.int64)
        users, nodes = len(sides[0].rows), len(self.rows)
        bounds = [(start, end) for start, end in ((0, users), (users, nodes)) if start < end]
        self.roots = len(bounds)
        size = max(2 * clusters - self.roots, self.roots)
        self.starts, self.ends = np.zeros((2, size), dtype=np.int64)
        for root, bound in enumerate(bounds):
            self.starts[root], self.ends[root] = bound
        self.divided = self._grow(size)

    def cut(self, clusters: int) -> tuple[SideClusters, SideClusters]:
        """The clusters of users and of items, so many in all, or as many as there are."""
        divided = self.divided[: max(clusters - self.roots, 0)]
        leaves = np.setdiff1d(np.arange(self.roots + 2 * len(divided)), divided, assume_unique=True)
        leaves = leaves[np.argsort(self.starts[leaves])]
        of_users = self.starts[leaves] < len(self.sides[0].rows)
        return self._side(0, leaves[of_users]), self._side(1, leaves[~of_users])

    def _side(self, side: int, leaves: np.ndarray) -> SideClusters:
        rows, weights = self.sides[side]
        first = 0 if side == 0 else len(self.sides[0].rows)
        labels = np.empty(len(rows), dtype=np.int64)
        sizes = self.ends[leaves] - self.starts[leaves]
        labels[self.members[first : first + len(rows)] - first] = np.repeat(np.arange(len(leaves)), sizes)
        return SideClusters(rows, weights, labels)

    def _grow(self, size: int) -> np.ndarray:
        middles, gains = np.zeros(size, dtype=np.int64), np.zeros(size)
        divided = np.zeros(size, dtype=np.int64)
        count, fresh, known = 0, np.arange(self.roots), self.roots
        leaves = fresh
        while len(leaves) and known < size:
            self._part(fresh, middles, gains)
            ranked = leaves[np.argsort(-gains[leaves], kind="stable")]
            chosen = ranked[gains[ranked] >= max(_NEARLY_BEST * gains[ranked[0]], np.finfo(float).tiny)]
            chosen = chosen[: (size - known) // 2]
            if not len(chosen):
                break
            fresh = np.arange(known, known + 2 * len(chosen))
            self.starts[fresh[::2]], self.ends[fresh[::2]] = self.starts[chosen], middles[chosen]
            self.starts[fresh[1::2]], self.ends[fresh[1::2]] = middles[chosen], self.ends[chosen]
            divided[count : count + len(chosen)] = chosen
            count, known = count + len(chosen), known + len(fresh)
            leaves = np.sort(np.concatenate([np.setdiff1d(leaves, chosen, assume_unique=True), fresh]))
        return divided[:count]

    def _part(self, nodes: np.ndarray, middles: np.ndarray, gains: np.ndarray) -> None:
        parts, gained = np.empty(len(nodes), dtype=np.int64), np.empty(len(nodes))
        bounds = self.starts[nodes], self.ends[nodes]
        on_threads(divide, self.rows, self.weights, self.members, *bounds, parts, gained)
        middles[nodes], gains[nodes] = parts, gained


def _shares(side: SpectralRows) -> np.ndarray:
    """The weights over the variance of the whole side; of one without variance, zero."""
    variance = variance_around_mean(*side)
    return side.weights / variance if variance > 0 else np.zeros(len(side.weights))
