"""BiMLPA: multi-label propagation between the two sides (Taguchi, Murata and Liu, NetSci-X 2020).

The authors' package (BiMLPA 0.1.2, its class with square roots of degrees) walks over nodes in Python; here a turn is
one product of sparse matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.common.sparse import one_hot, row_best
from baco_gpu.methods.labelled import Labelled

# Labels of at least this share of the strongest stay, and a node passes on so many: the defaults of the community
# detection library cdlib, which runs the authors' package; the package itself has defaults for turns alone.
_THRESHOLD = 0.3
_PASSED_ON = 7
_TURNS = 100
# Sums of the same labels in another order are equal: ties must not be decided by rounding.
_DECIMALS = 9


def bimlpa(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> Callable[[int], Sides]:
    """Nodes with the same set of labels share a row; how many there are is its own affair.

    The larger side starts with a label a node. Both sides then keep several labels, in turns; at last the larger side
    keeps one. A label counts by the square root of its bearer's degree, inversely. Ties go to the first of labels that
    are numbered at random.
    """

    def solve(rows: int) -> Sides:
        matrix = graph.to_scipy()
        matrix.data[:] = 1.0
        flipped = graph.num_items > graph.num_users
        red_of_blue = matrix if flipped else matrix.T.tocsr()  # a row for every node of the smaller side
        blue_of_red = red_of_blue.T.tocsr()
        generator = np.random.default_rng(seed)
        size = blue_of_red.shape[0]
        red = one_hot(generator.permutation(size), size)
        blue = scipy.sparse.csr_array((red_of_blue.shape[0], size))
        for keep in (_several, _one):
            for _ in range(_TURNS):
                new_blue = _several(red_of_blue @ _passed_on(red, blue_of_red))
                new_red = keep(blue_of_red @ _passed_on(new_blue, red_of_blue))
                same = _same_labels(new_blue, blue) and _same_labels(new_red, red)
                red, blue = new_red, new_blue
                if same:
                    break
        marks = generator.integers(0, 2**64, size, dtype=np.uint64)
        sets = [_set_marks(side, marks) for side in (red, blue)]
        _, numbers = np.unique(np.concatenate(sets), return_inverse=True)
        reds, blues = numbers[:size], numbers[size:]
        return coclusters(graph, (blues, reds) if flipped else (reds, blues), secondary)

    return solve


def _several(received: scipy.sparse.sparray) -> scipy.sparse.csr_array:
    """The labels of at least the threshold's share of a row's strongest, summing to one."""
    received = scipy.sparse.csr_array(received)
    received.data = received.data.round(_DECIMALS)
    _, strongest = row_best(received)
    received.data[received.data < _THRESHOLD * np.repeat(strongest, np.diff(received.indptr))] = 0.0
    received.eliminate_zeros()
    received.data /= np.repeat(np.asarray(received.sum(axis=1)), np.diff(received.indptr))
    received.sort_indices()
    return received


def _one(received: scipy.sparse.sparray) -> scipy.sparse.csr_array:
    """A row's strongest label alone."""
    received = scipy.sparse.csr_array(received)
    received.data = received.data.round(_DECIMALS)
    labels, _ = row_best(received)
    filled = labels >= 0
    offsets = np.concatenate([[0], np.cumsum(filled)])
    return scipy.sparse.csr_array((np.ones(filled.sum()), labels[filled], offsets), shape=received.shape)


def _passed_on(labels: scipy.sparse.csr_array, edges: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The strongest labels of every row, over the square root of its degree."""
    rows = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    order = np.lexsort((labels.indices, -labels.data.round(_DECIMALS), rows))
    rank = np.arange(len(order)) - labels.indptr[:-1][rows]
    kept = order[rank < _PASSED_ON]
    values = labels.data[kept] / np.sqrt(np.maximum(np.diff(edges.indptr), 1))[rows[kept]]
    return scipy.sparse.coo_array((values, (rows[kept], labels.indices[kept])), shape=labels.shape).tocsr()


def _same_labels(one: scipy.sparse.csr_array, other: scipy.sparse.csr_array) -> bool:
    return np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)


def _set_marks(labels: scipy.sparse.csr_array, marks: np.ndarray) -> np.ndarray:
    """A number for every row that only rows of the same set of labels share: the sum, modulo 2^64, of their marks."""
    sums = np.zeros(len(labels.indices) + 1, dtype=np.uint64)
    np.cumsum(marks[labels.indices], out=sums[1:])
    return sums[labels.indptr[1:]] - sums[labels.indptr[:-1]]


METHOD = Labelled(
    name="bimlpa",
    family="propagation",
    shared="nodes of the same labels, passed on between the sides",
    source="Taguchi et al., NetSci-X 2020",
    size="own",
    secondary="none",
    solver=bimlpa,
)
