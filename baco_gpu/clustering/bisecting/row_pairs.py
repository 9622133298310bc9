"""Two codebook rows for every node of a side, such that their mean is near the node's own row."""

from __future__ import annotations

import numpy as np

from baco_gpu.clustering.bisecting.pair_loops import CELL, descend, fill_cells, means, nearest_rows
from baco_gpu.clustering.bisecting.row_tree import SideClusters
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.compiling import on_threads

# A round of k-means, and then rounds in which nodes choose both rows anew and rows follow.
_MEANS_ROUNDS = 1
_PAIR_ROUNDS = 3
_DESCENTS, _DAMPING = 3, 0.7
# Cells that a search opens: the first one for a second row looks at more, since it starts from nothing.
_WIDTH, _FIRST_WIDTH = 4, 12


def paired_rows(clusters: SideClusters, *, pairs: bool = True) -> Assignment:
    """Two codebook rows of every node, whose mean is near the node's own row; one where the two are the same.

    This is additive quantization (Babenko and Lempitsky, CVPR 2014) of one codebook and two codes, from the clusters
    on. First comes a round of k-means. In the rounds after it every node chooses its second row, then its first one,
    and the codebook moves towards the least squares for these pairs, by steps of Jacobi's method.

    A node looks for the nearest row in cells of rows that were near each other in the tree, as inverted files do
    (Jegou, Douze and Schmid, PAMI 2011), and changes to a nearer one only; but every codebook row keeps a node that has
    it first. Nodes that weigh nothing stay in their cluster and have no second row. Without `pairs` nobody has one, and
    k-means is all.
    """
    if not len(clusters.labels):
        return Assignment(*np.empty((2 if pairs else 1, 0), dtype=np.int32))
    pairing = _Pairing(clusters)
    for _ in range(_MEANS_ROUNDS):
        pairing.choose_first(np.full(len(clusters.labels), -1))
        pairing.set_means()
    if not pairs:
        return Assignment(pairing.labels.astype(np.int32))
    second = pairing.nearest(pairing.labels, pairing.labels, _FIRST_WIDTH)
    for round_ in range(_PAIR_ROUNDS):
        if round_:
            second = pairing.nearest(second, pairing.labels, _WIDTH)
        pairing.choose_first(second)
        pairing.descend(second)
    labels = pairing.labels
    return Assignment(labels.astype(np.int32), np.where(second == labels, NO_LABEL, second).astype(np.int32))


class _Pairing:
    """The first rows of nodes, `labels`, the codebook, and the cells that it is searched in."""

    def __init__(self, clusters: SideClusters) -> None:
        self.rows, self.weights, self.labels = clusters
        self.order = np.argsort(self.labels, kind="stable")
        self.lightest_first = np.lexsort((-np.arange(len(self.weights)), self.weights))
        self.set_means()

    def set_means(self) -> None:
        codebook = np.empty((self.labels.max() + 1, self.rows.shape[1]))
        on_threads(means, self.rows, self.weights, *_grouped(self.labels, len(codebook)), codebook)
        self.set_codebook(codebook)

    def descend(self, second: np.ndarray) -> None:
        codebook, pairs = self.codebook, np.stack([self.labels, second])
        starts, places = _grouped(pairs.reshape(-1), len(codebook))
        nodes = places % len(self.rows)
        for _ in range(_DESCENTS):
            codebook, former = np.empty_like(codebook), codebook
            on_threads(descend, self.rows, self.weights, pairs, starts, nodes, former, _DAMPING, codebook)
        self.set_codebook(codebook)

    def set_codebook(self, codebook: np.ndarray) -> None:
        """A new codebook, and its cells: of rows, of the means of these cells, and so on until there are few."""
        self.codebook = codebook
        levels, masses = [codebook.astype(np.float32)], np.bincount(self.labels, weights=self.weights)
        while len(levels[0]) > CELL * _WIDTH:
            cells = np.arange(len(levels[0])) // CELL
            centres = np.empty((cells[-1] + 1, codebook.shape[1]))
            on_threads(means, levels[0], masses, *_grouped(cells, len(centres)), centres)
            levels, masses = [centres.astype(np.float32), *levels], np.bincount(cells, weights=masses)
        self.first = np.cumsum([0] + [-(-len(level) // CELL) for level in levels])
        self.cells = np.empty((self.first[-1], codebook.shape[1], CELL), dtype=np.float32)
        self.halves = np.empty((self.first[-1], CELL), dtype=np.float32)
        for level, start, end in zip(levels, self.first[:-1], self.first[1:], strict=True):
            on_threads(fill_cells, level, self.cells[start:end], self.halves[start:end])
        self.single = levels[-1]

    def nearest(self, present: np.ndarray, other: np.ndarray, width: int) -> np.ndarray:
        """The codebook row nearest to what `other` misses of every node's row, or the present one."""
        out = np.empty_like(present)
        given = (self.order, self.rows, self.weights, other, present, self.single)
        on_threads(nearest_rows, *given, self.cells, self.halves, self.first, width, out)
        return out

    def choose_first(self, second: np.ndarray) -> None:
        """New first rows; but a codebook row that all leave keeps its heaviest node, of equal ones the first."""
        chosen, count = self.nearest(self.labels, second, _WIDTH), len(self.codebook)
        anchors = np.empty(count, dtype=np.int64)
        anchors[self.labels[self.lightest_first]] = self.lightest_first  # the last one stays
        while len(left := np.flatnonzero(np.bincount(chosen, minlength=count) == 0)):
            chosen[anchors[left]] = left
        self.labels = chosen


def _grouped(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in the order of their labels, and where each label starts among them."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=count))])
    return starts, np.argsort(labels, kind="stable")
