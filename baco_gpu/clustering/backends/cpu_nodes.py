"""The compiled loops of the CPU backend over nodes and labels (Numba, one thread).

They find their arrays made: compiling what makes arrays would take as long as compiling all of these loops.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: its multiples scatter what is counted up


@njit(inline="always")
def _mix(x):
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that scatters counters."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(inline="always")
def _node_hash(stream, node):
    return _mix(stream ^ (np.uint64(node) * GOLDEN))


@compiled()
def deal_nodes(stream, num_blocks, block):
    """Deal the nodes into blocks by hash: `block` gets the number of every node's."""
    for node in range(len(block)):
        block[node] = _node_hash(stream, node) % np.uint64(num_blocks)


@compiled()
def signs_of_nodes(nodes, columns, seed):
    """Ones and minus ones, float32 of shape (nodes, columns), each a bit of a hash of (seed, node, column)."""
    out = np.empty((nodes, columns), np.float32)
    for node in range(nodes):
        for column in range(columns):
            word = _mix(np.uint64(node * columns + column) + np.uint64(seed) * GOLDEN)
            out[node, column] = 1 if word >> np.uint64(63) else -1
    return out


@compiled()
def find_anchors(labels, stream, anchor, smallest):
    """The member of every label whose hash is smallest (ties to the smaller id): `anchor`, of -1s, gets it, and
    `smallest` that hash."""
    for node in range(len(labels)):
        label = labels[node]
        value = _node_hash(stream, node)
        if anchor[label] < 0 or value < smallest[label]:
            anchor[label] = node
            smallest[label] = value


def chunk_bounds(costs, chunks):
    """Split a sequence with the given costs into `chunks` contiguous runs of about equal cost."""
    running = np.concatenate([[0], np.cumsum(costs)])
    inner = np.searchsorted(running[:-1] * chunks, running[-1] * np.arange(1, chunks))
    return np.concatenate([[0], inner, [len(costs)]])


def group_by_label(labels, num_labels):
    """The ids 0..n-1 ordered by (label, id), and where each label starts."""
    members, starts = np.empty(len(labels), np.int64), np.zeros(num_labels + 1, np.int64)
    _group(labels, members, starts)
    return members, starts


@compiled()
def _group(labels, members, starts):
    for label in labels:
        starts[label] += 1
    end = 0
    for label in range(len(starts)):
        end += starts[label]
        starts[label] = end
    for node in range(len(labels) - 1, -1, -1):
        starts[labels[node]] -= 1
        members[starts[labels[node]]] = node


def sums_by_label(labels, values, num_labels):
    """The exact sum of the int64 values of every label. (numpy.bincount would add them up as float64.)"""
    sums = np.zeros(num_labels, np.int64)
    _add_up(labels, values, sums)
    return sums


@compiled()
def _add_up(labels, values, sums):
    for node in range(len(labels)):
        sums[labels[node]] += values[node]


@compiled()
def move_volumes(nodes, previous, labels, node_weights, volumes):
    """Carry the weights of the nodes that changed label to their new clusters; returns how many changed."""
    moved = 0
    for k in range(len(nodes)):
        node = nodes[k]
        if previous[k] != labels[node]:
            moved += 1
            volumes[previous[k]] -= node_weights[node]
            volumes[labels[node]] += node_weights[node]
    return moved


@compiled()
def add_member_costs(costs, members, starts, first, last):
    """Add to every label's cost the lengths `last - first` of its members' lists."""
    for label in range(len(costs)):
        for k in range(starts[label], starts[label + 1]):
            costs[label] += last[members[k]] - first[members[k]]


@compiled(nogil=True)
def weight_within(begin, end, offsets, neighbors, weights, labels, other_labels):
    """The total weight of the edges whose two ends bear the same label."""
    within = np.int64(0)
    for node in range(begin, end):
        for e in range(offsets[node], offsets[node + 1]):
            if other_labels[neighbors[e]] == labels[node]:
                within += 1 if weights is None else weights[e]
    return within
