"""The compiled loops of the CPU backend over nodes and labels (Numba, one thread)."""

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
def blocks_of_nodes(num_nodes, stream, num_blocks):
    """Deal the nodes into blocks by hash: the nodes ordered by (block, id), and where each block starts."""
    block = np.empty(num_nodes, np.uint8)
    mask = np.uint64(num_blocks - 1)
    masks = num_blocks & (num_blocks - 1) == 0  # the remainder without a division, which takes longer than the hash
    starts = np.zeros(num_blocks + 1, np.int64)
    for node in range(num_nodes):
        word = _node_hash(stream, node)
        block[node] = word & mask if masks else word % np.uint64(num_blocks)
        starts[block[node] + 1] += 1
    for b in range(num_blocks):
        starts[b + 1] += starts[b]
    position = starts.copy()
    order = np.empty(num_nodes, np.int64)
    for node in range(num_nodes):
        order[position[block[node]]] = node
        position[block[node]] += 1
    return order, starts


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
def anchors_of_labels(labels, num_labels, stream):
    """The member of every label whose hash is smallest (ties to the smaller id); -1 for a label without members."""
    anchor = np.full(num_labels, -1, np.int64)
    smallest = np.zeros(num_labels, np.uint64)
    for node in range(len(labels)):
        label = labels[node]
        value = _node_hash(stream, node)
        if anchor[label] < 0 or value < smallest[label]:
            anchor[label] = node
            smallest[label] = value
    return anchor


@compiled()
def chunk_bounds(costs, chunks):
    """Split a sequence with the given costs into `chunks` contiguous runs of about equal cost."""
    bounds = np.full(chunks + 1, len(costs), np.int64)
    bounds[0] = 0
    total = costs.sum()
    cost, chunk = 0, 1
    for k in range(len(costs)):
        while chunk < chunks and cost * chunks >= total * chunk:
            bounds[chunk] = k
            chunk += 1
        cost += costs[k]
    return bounds


@compiled()
def group_by_label(labels, num_labels):
    """The ids 0..n-1 ordered by (label, id), and where each label starts."""
    starts = np.zeros(num_labels + 1, np.int64)
    for node in range(len(labels)):
        starts[labels[node] + 1] += 1
    for label in range(num_labels):
        starts[label + 1] += starts[label]
    position = starts[:-1].copy()
    members = np.empty(len(labels), np.int64)
    for node in range(len(labels)):
        members[position[labels[node]]] = node
        position[labels[node]] += 1
    return members, starts


@compiled()
def sums_by_label(labels, values, num_labels):
    """The exact sum of the int64 values of every label. (numpy.bincount would add them up as float64.)"""
    sums = np.zeros(num_labels, np.int64)
    for node in range(len(labels)):
        sums[labels[node]] += values[node]
    return sums


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
