"""The compiled loops of the CPU backend (Numba, parallel, no locks).

Every kernel splits its nodes or clusters into `threads` contiguous chunks of about equal numbers of edges, gives each
chunk a row of scratch memory, and writes only to places that belong to the chunk. Sums are sums of int64, scores are
plain float64 products and differences (Numba contracts nothing into fused multiply-adds), and ties go to the smallest
label, so the result does not depend on the number of chunks.

`weights` is an int64 array or None, which stands for 1 on every edge; Numba compiles a version without the look-up.
`scratch` has shape (threads, labels) and holds zeros on entry and on return.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NO_LABEL = -1


@njit(inline="always")
def _mix(x):
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that scatters counters."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(inline="always")
def _node_hash(stream, node):
    return _mix(stream ^ (np.uint64(node) * _GOLDEN))


@njit(cache=True)
def blocks_of_nodes(num_nodes, stream, num_blocks):
    """Deal the nodes into blocks by hash: the nodes ordered by (block, id), and where each block starts."""
    block = np.empty(num_nodes, np.uint8)
    starts = np.zeros(num_blocks + 1, np.int64)
    for node in range(num_nodes):
        block[node] = _node_hash(stream, node) % np.uint64(num_blocks)
        starts[block[node] + 1] += 1
    for b in range(num_blocks):
        starts[b + 1] += starts[b]
    position = starts.copy()
    order = np.empty(num_nodes, np.int64)
    for node in range(num_nodes):
        order[position[block[node]]] = node
        position[block[node]] += 1
    return order, starts


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True, parallel=True)
def best_labels(
    nodes,
    bounds,
    offsets,
    neighbors,
    weights,
    node_weights,
    labels,
    anchors,
    other_labels,
    other_volumes,
    penalty,
    scratch,
):
    """Give every node of a block its best label; returns the labels before, and what the edges inside clusters gained.

    The score of a node x for label c is  sum of its edge weights to c - penalty * w_x * V(c)  (DESIGN: the other side's
    labels and volumes stand still, so the nodes are independent). Candidates are the neighbours' labels and the present
    one. `anchors` is empty, or holds for every label the one node that must not leave it (-1 for a label that has no
    node on this side, which then is no candidate: the occupied labels stay the same).
    """
    previous = np.empty(len(nodes), labels.dtype)
    chunks = len(bounds) - 1
    held = len(anchors) > 0
    gained = np.zeros(chunks, np.int64)
    for chunk in prange(chunks):
        strength = scratch[chunk]
        gain = 0
        for k in range(bounds[chunk], bounds[chunk + 1]):
            node = nodes[k]
            own = labels[node]
            previous[k] = own
            if held and anchors[own] == node:
                continue
            first, last = offsets[node], offsets[node + 1]
            for e in range(first, last):
                strength[other_labels[neighbors[e]]] += 1 if weights is None else weights[e]
            factor = penalty * np.float64(node_weights[node])
            own_strength = strength[own]
            best, best_strength = own, own_strength
            best_score = np.float64(own_strength) - factor * np.float64(other_volumes[own])
            for e in range(first, last):
                label = other_labels[neighbors[e]]
                towards = strength[label]
                if towards != 0:  # the first edge to this label
                    strength[label] = 0
                    if held and anchors[label] < 0:
                        continue
                    score = np.float64(towards) - factor * np.float64(other_volumes[label])
                    if score > best_score or (score == best_score and label < best):
                        best, best_strength, best_score = label, towards, score
            labels[node] = best
            gain += best_strength - own_strength
        gained[chunk] = gain
    return previous, gained.sum()


@njit(cache=True)
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


@njit(cache=True, parallel=True)
def second_best_labels(
    bounds, offsets, neighbors, weights, node_weights, labels, owned, other_labels, other_volumes, penalty, scratch
):
    """The best label of every node other than its own among the neighbours' labels that `owned` marks; -1 for none."""
    second = np.full(len(labels), _NO_LABEL, labels.dtype)
    for chunk in prange(len(bounds) - 1):
        strength = scratch[chunk]
        for node in range(bounds[chunk], bounds[chunk + 1]):
            own = labels[node]
            first, last = offsets[node], offsets[node + 1]
            for e in range(first, last):
                strength[other_labels[neighbors[e]]] += 1 if weights is None else weights[e]
            factor = penalty * np.float64(node_weights[node])
            best = second[node]
            best_score = -np.inf
            for e in range(first, last):
                label = other_labels[neighbors[e]]
                towards = strength[label]
                if towards != 0:
                    strength[label] = 0
                    if label != own and owned[label]:
                        score = np.float64(towards) - factor * np.float64(other_volumes[label])
                        if score > best_score or (score == best_score and label < best):
                            best, best_score = label, score
            second[node] = best
    return second


@njit(cache=True, parallel=True)
def weight_within(bounds, offsets, neighbors, weights, labels, other_labels):
    """The total weight of the edges whose two ends bear the same label."""
    partial = np.zeros(len(bounds) - 1, np.int64)
    for chunk in prange(len(bounds) - 1):
        within = 0
        for node in range(bounds[chunk], bounds[chunk + 1]):
            for e in range(offsets[node], offsets[node + 1]):
                if other_labels[neighbors[e]] == labels[node]:
                    within += 1 if weights is None else weights[e]
        partial[chunk] = within
    return partial.sum()


@njit(cache=True)
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


@njit(cache=True)
def sums_by_label(labels, values, num_labels):
    """The exact sum of the int64 values of every label. (numpy.bincount would add them up as float64.)"""
    sums = np.zeros(num_labels, np.int64)
    for node in range(len(labels)):
        sums[labels[node]] += values[node]
    return sums


@njit(cache=True)
def add_member_costs(costs, members, starts, first, last):
    """Add to every label's cost the lengths `last - first` of its members' lists."""
    for label in range(len(costs)):
        for k in range(starts[label], starts[label + 1]):
            costs[label] += last[members[k]] - first[members[k]]


@njit(cache=True, parallel=True)
def gather_rows(bounds, rows, counts, members, starts, first, last, neighbors, weights, relabel, ids, sums, scratch):
    """Append to every row of a contracted graph the relabelled neighbour lists of its members, equal ids summed.

    Row c has room from rows[c] to rows[c + 1] in `ids` and `sums`, of which counts[c] places are taken. Members of c
    are members[starts[c]:starts[c + 1]]; the list of member x is neighbors[first[x]:last[x]].
    """
    for chunk in prange(len(bounds) - 1):
        total = scratch[chunk]
        for row in range(bounds[chunk], bounds[chunk + 1]):
            begin = rows[row]
            end = begin + counts[row]
            for place in range(begin, end):
                total[ids[place]] = sums[place]
            for k in range(starts[row], starts[row + 1]):
                member = members[k]
                for e in range(first[member], last[member]):
                    label = relabel[neighbors[e]]
                    if label != row:
                        if total[label] == 0:
                            ids[end] = label
                            end += 1
                        total[label] += 1 if weights is None else weights[e]
            for place in range(begin, end):
                sums[place] = total[ids[place]]
                total[ids[place]] = 0
            counts[row] = end - begin


@njit(cache=True, parallel=True)
def best_partners(bounds, rows, counts, ids, sums, user_volumes, item_volumes, penalty):
    """The neighbour of every cluster whose merge gains most (ties to the smallest id; -1 for none), and the gain."""
    num_clusters = len(counts)
    partner = np.full(num_clusters, -1, np.int64)
    gain = np.full(num_clusters, -np.inf)
    for chunk in prange(len(bounds) - 1):
        for cluster in range(bounds[chunk], bounds[chunk + 1]):
            users = np.float64(user_volumes[cluster])
            items = np.float64(item_volumes[cluster])
            for place in range(rows[cluster], rows[cluster] + counts[cluster]):
                other = ids[place]
                # Both products are symmetric in the two clusters, so both see the same gain to the last bit.
                crossing = users * np.float64(item_volumes[other]) + items * np.float64(user_volumes[other])
                value = np.float64(sums[place]) - penalty * crossing
                if value > gain[cluster] or (value == gain[cluster] and other < partner[cluster]):
                    partner[cluster], gain[cluster] = other, value
    return partner, gain
