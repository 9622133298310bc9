"""Two codebook rows for every node of a side, such that their mean is near the node's own row."""

from __future__ import annotations

import numpy as np

from baco_gpu.clustering.bisecting.pair_loops import descend, fill_centres, means, nearest_rows
from baco_gpu.clustering.bisecting.row_tree import SideTree
from baco_gpu.clustering.bisecting.spectral_rows import LARGEST
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.compiling import on_threads

# Rounds of k-means, and then rounds in which nodes choose both rows anew and rows follow.
_MEANS_ROUNDS = 2
_PAIR_ROUNDS = 3
_DESCENTS, _DAMPING = 5, 0.7


def paired_rows(tree: SideTree) -> Assignment:
    """Two codebook rows of every node, whose mean is near the node's own row; one where the two are the same.

    This is additive quantization (Babenko and Lempitsky, CVPR 2014) of one codebook and two codes, from the clusters of
    the tree on. First come rounds of k-means. In the rounds after these every node chooses its second row, then its
    first one, and the codebook moves towards the least squares for these pairs, by steps of Jacobi's method.

    A node looks for the nearest row down the tree, and changes to a nearer one only; but every codebook row keeps a
    node that has it first. Nodes that weigh nothing stay in their cluster and have no second row.
    """
    labels = tree.labels
    if not len(labels):
        return Assignment(labels.astype(np.int32), labels.astype(np.int32))
    codebook = _means(tree, labels)
    for _ in range(_MEANS_ROUNDS):
        labels = _each_row_kept(_nearest(tree, tree.rows, labels, codebook), labels, tree.weights)
        codebook = _means(tree, labels)
    second = labels
    for _ in range(_PAIR_ROUNDS):
        second = _nearest(tree, _missing(tree.rows, codebook, labels), second, codebook)
        chosen = _nearest(tree, _missing(tree.rows, codebook, second), labels, codebook)
        labels = _each_row_kept(chosen, labels, tree.weights)
        codebook = _least_squares(tree, np.stack([labels, second]), codebook)
    return Assignment(labels.astype(np.int32), np.where(second == labels, NO_LABEL, second).astype(np.int32))


def _nearest(tree: SideTree, targets: np.ndarray, present: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The codebook row nearest to every target that a search down the tree comes by, or the present one."""
    leaves = np.flatnonzero(tree.children < 0)
    centres = np.zeros((len(tree.children), codebook.shape[1]))
    centres[leaves] = codebook
    fill_centres(tree.children, tree.masses, centres)
    out = np.empty(len(targets), dtype=np.int64)
    order = np.argsort(present, kind="stable")
    whole = _whole(centres)
    halves = np.square(whole, dtype=np.float64).sum(axis=1) / 2
    on_threads(nearest_rows, order, targets, tree.weights, leaves[present], tree.children, whole, halves, out)
    return np.searchsorted(leaves, out)


def _missing(rows: np.ndarray, codebook: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What has to be added to the codebook row of every node, for the mean of the two to be the node's own row."""
    return 2 * rows - _whole(codebook)[labels]


def _whole(rows: np.ndarray) -> np.ndarray:
    """Whole numbers, whose products with the rows of nodes, or with what is missing to them, have exact sums."""
    return np.clip(np.rint(rows), -2 * LARGEST, 2 * LARGEST).astype(np.float32)


def _each_row_kept(chosen: np.ndarray, before: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rows chosen, but that one left by all keeps its heaviest node, of equal ones the first."""
    lightest_first = np.lexsort((-np.arange(len(weights)), weights))
    count = before.max(initial=-1) + 1
    anchors = np.empty(count, dtype=np.int64)
    anchors[before[lightest_first]] = lightest_first  # the last one stays
    while len(left := np.flatnonzero(np.bincount(chosen, minlength=count) == 0)):
        chosen[anchors[left]] = left
    return chosen


def _means(tree: SideTree, labels: np.ndarray) -> np.ndarray:
    codebook = np.empty((labels.max() + 1, tree.rows.shape[1]))
    on_threads(means, tree.rows, tree.weights, *_grouped(labels, len(codebook)), codebook)
    return codebook


def _least_squares(tree: SideTree, pairs: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    starts, places = _grouped(pairs.reshape(-1), len(codebook))
    nodes = places % len(tree.rows)
    for _ in range(_DESCENTS):
        codebook, former = np.empty_like(codebook), codebook
        on_threads(descend, tree.rows, tree.weights, pairs, starts, nodes, former, _DAMPING, codebook)
    return codebook


def _grouped(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in the order of their labels, and where each label starts among them."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=count))])
    return starts, np.argsort(labels, kind="stable")
