"""Which co-clusters a node is near to: those that it has edges to, each as often as its share of the edges says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from baco_gpu.checks import check_integer
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.graph.arrays import Adjacency

# So many nodes are dealt with at a time, for what is made of them on the way is many times their slots.
_NODES = 1 << 16


def nearby_coclusters(adjacency: Adjacency, labels: np.ndarray, num_labels: int, slots: int) -> np.ndarray:
    """Fill every node's slots with the co-clusters that it has edges to, in proportion to the edges.

    The mean of the slots stands for the weighted mean over the node's neighbors, without stored weights. Slots are
    dealt out by the greatest quotients (D'Hondt's rule); among equal ones more edges come first, then the lower label.

    Parameters
    ----------
    adjacency : Adjacency
        The edges of the nodes, on the host.
    labels : integer array, the co-cluster of every neighbor
    num_labels : int
        All labels are below it.
    slots : int
        At least 1.

    Returns
    -------
    int64 array of shape (nodes, slots), greatest quotients first; `NO_LABEL` in all slots of a node without an edge.
    """
    check_integer("slots", slots, minimum=1)
    nodes = len(adjacency.offsets) - 1
    filled = np.empty((nodes, slots), np.int64)
    for first in range(0, nodes, _NODES):
        here = slice(first, min(first + _NODES, nodes))
        filled[here] = _dealt_out(_nearest(adjacency, labels, num_labels, slots, here))
    return filled


class _Nearest(NamedTuple):
    """Labels of some nodes, (nodes, slots), most edges first, and the edges to each; `NO_LABEL` and none beyond."""

    labels: np.ndarray
    edges: np.ndarray


def _nearest(adjacency: Adjacency, labels: np.ndarray, num_labels: int, slots: int, nodes: slice) -> _Nearest:
    count = nodes.stop - nodes.start
    offsets = adjacency.offsets[nodes.start : nodes.stop + 1]
    edges = slice(offsets[0], offsets[-1])
    weights = np.ones(edges.stop - edges.start) if adjacency.weights is None else adjacency.weights[edges]
    ends = (labels[adjacency.neighbors[edges]], offsets - offsets[0])
    sums = sparse.csr_array((weights.astype(np.float64), *ends), shape=(count, num_labels))
    sums.sum_duplicates()
    node = np.repeat(np.arange(count), np.diff(sums.indptr))
    order = np.lexsort((sums.indices, -sums.data, node))
    rank = np.arange(len(node)) - sums.indptr[node]
    near = rank < slots
    nearest = _Nearest(np.full((count, slots), NO_LABEL, np.int64), np.zeros((count, slots)))
    nearest.labels[node[near], rank[near]] = sums.indices[order[near]]
    nearest.edges[node[near], rank[near]] = sums.data[order[near]]
    return nearest


def _dealt_out(nearest: _Nearest) -> np.ndarray:
    """The label of every slot."""
    count, slots = nearest.labels.shape
    quotients = (nearest.edges[:, :, None] / np.arange(1, slots + 1)).reshape(count, -1)
    winners = np.argsort(-quotients, axis=1, kind="stable")[:, :slots] // slots
    dealt: np.ndarray = np.take_along_axis(nearest.labels, winners, axis=1)
    return dealt
