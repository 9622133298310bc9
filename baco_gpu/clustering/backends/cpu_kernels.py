"""The compiled loops of the CPU backend over edges (Numba, parallel, no locks).

Every kernel splits its nodes or clusters into `threads` contiguous chunks of about equal numbers of edges, gives each
chunk a row of scratch memory, and writes only to places that belong to the chunk. Sums are sums of int64, scores are
plain float64 products and differences (Numba contracts nothing into fused multiply-adds), and ties go to the smallest
label, so the result does not depend on the number of chunks.

`weights` is an int64 array or None, which stands for 1 on every edge; Numba compiles a version without the look-up.

Loops over lists ask ahead (`_ask_ahead`): a list is short and the next one elsewhere, so that every list would wait for
memory several times over. What they see ahead starts a transfer, and decides nothing.

No kernel calls one of another file: the cache of compiled code on the disk notices changes of a kernel's own file only.

Edges are summed by label in a hash table no larger than the list at hand, which stays in the nearest cache however many
labels there are. Its memory has one row a chunk: `keys` (labels, -1 where empty), `totals` (int64) and `used` (the
slots taken). On entry and on return every slot is empty and every total 0. A few edges are compared with one another
instead, a vector register at a time: that has no branches to mispredict, of which a table has several an edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from baco_gpu.clustering.backends.cpu_nodes import GOLDEN
from baco_gpu.compiling import compiled
from baco_gpu.prefetch import prefetch


class Members(NamedTuple):
    """The members of every cluster, and the neighbor list of every member.

    `group` are the members in the order of their clusters, and where each cluster starts among them. The list of member
    x is neighbors[first[x]:last[x]], with the edge weights at the same places (None for 1), and `relabel` has the
    cluster of each neighbor.
    """

    group: tuple[np.ndarray, np.ndarray]
    first: np.ndarray
    last: np.ndarray
    neighbors: np.ndarray
    weights: np.ndarray | None
    relabel: np.ndarray

    def none(self) -> Members:
        """No members at all, of the same kind."""
        members, starts = self.group
        return self._replace(group=(members[:0], np.zeros_like(starts)))


_NO_LABEL = -1
_TILE = 64
_FEW = 16
# How many lists ahead their ends, their edges, the labels of these and the volumes of those are fetched; a step reads
# what the one before it has brought. Of a long list only the head is: in the rest the processor foresees what comes.
_ENDS_AHEAD, _EDGES_AHEAD, _LABELS_AHEAD, _VOLUMES_AHEAD = 16, 6, 3, 1
_HEAD = 128
_EDGES_A_LINE = 8  # what comes with one fetch, of the wider of the arrays
_NEAR = 1 << 17  # so many labels and their volumes stay in a cache that is near enough without asking


@njit
def _mask_for(bound):
    """The greatest slot of a table in which `bound` labels take at most half of the slots."""
    size = 4
    while size < 2 * bound:
        size *= 2
    return np.uint64(size - 1)


@njit
def _fetch(begin, size, neighbors, label_of, near):
    """Put the labels of some neighbors into `near`: while nothing waits for them they are fetched side by side."""
    for k in range(size):
        # Unsigned, so that Numba need not ask whether it counts from the end.
        near[k] = label_of[np.uint64(neighbors[np.uint64(begin + k)])]


@njit(inline="always")
def _ask_ahead(k, stop, nodes, first, last, neighbors, weights, label_of):
    """Ask memory for what the walk over `nodes` up to `stop`, now at k, will need soon."""
    if k + _ENDS_AHEAD < stop:
        later = np.uint64(nodes[np.uint64(k + _ENDS_AHEAD)])
        prefetch(first, later)
        prefetch(last, later)
    if k + _EDGES_AHEAD < stop:
        later = np.uint64(nodes[np.uint64(k + _EDGES_AHEAD)])
        for e in range(first[later], min(last[later], first[later] + _HEAD), _EDGES_A_LINE):
            prefetch(neighbors, e)
            prefetch(weights, e)
    if k + _LABELS_AHEAD < stop and len(label_of) > _NEAR:
        later = np.uint64(nodes[np.uint64(k + _LABELS_AHEAD)])
        for e in range(first[later], min(last[later], first[later] + _HEAD)):
            prefetch(label_of, neighbors[np.uint64(e)])


@njit(inline="always")
def _ask_for_volumes(k, stop, nodes, first, last, neighbors, labels, anchors, other_labels, other_volumes):
    """Ask memory for the volumes, and anchors, of the labels that the node after the k-th will choose from."""
    if k + _VOLUMES_AHEAD < stop and len(other_volumes) > _NEAR:
        later = np.uint64(nodes[np.uint64(k + _VOLUMES_AHEAD)])
        prefetch(other_volumes, labels[later])
        for e in range(first[later], min(last[later], first[later] + _HEAD)):
            label = other_labels[np.uint64(neighbors[np.uint64(e)])]
            prefetch(other_volumes, label)
            prefetch(anchors, label)


@njit
def _add_edges(first, last, neighbors, weights, label_of, mask, keys, totals, used, near, distinct):
    """Add edges to the table under the labels of their ends.

    `distinct` is how many labels there were before; returned is how many there are now.
    """
    for begin in range(first, last, _TILE):
        size = min(_TILE, last - begin)
        _fetch(begin, size, neighbors, label_of, near)
        for k in range(size):
            label = near[k]
            slot = ((np.uint64(label) * GOLDEN) >> np.uint64(32)) & mask
            while (keys[slot] != label) & (keys[slot] != _NO_LABEL):
                slot = (slot + np.uint64(1)) & mask
            # Without a branch, since which labels are new cannot be foretold.
            used[distinct] = slot
            distinct += keys[slot] == _NO_LABEL
            keys[slot] = label
            totals[slot] += 1 if weights is None else weights[begin + k]
    return distinct


@njit
def _take(place, keys, totals, used):
    """The label at a place and what its edges sum to; its slot is empty again."""
    slot = used[place]
    label, total = keys[slot], totals[slot]
    keys[slot], totals[slot] = _NO_LABEL, 0
    return label, total


@njit
def _strength_among_few(label, near, first, size, weights):
    """What the edges to a label sum to, among `size` edges; `near` has their labels, and -1 up to `_FEW`."""
    if weights is None:
        count = np.int32(0)
        for k in range(_FEW):
            count += np.int32(near[k] == label)
        return np.int64(count)
    total = np.int64(0)
    for k in range(size):
        total += weights[first + k] * (near[k] == label)
    return total


@njit(inline="always")
def _best_among_few(first, last, neighbors, weights, own, factor, anchors, other_labels, other_volumes, near):
    """The best label of a node of at most `_FEW` edges, and what the edges inside clusters gain by it."""
    size = last - first
    for k in range(_FEW):
        near[k] = _NO_LABEL
    _fetch(first, size, neighbors, other_labels, near)
    own_strength = _strength_among_few(own, near, first, size, weights)
    best, best_strength = own, own_strength
    best_score = np.float64(own_strength) - factor * np.float64(other_volumes[own])
    for k in range(size):
        label = near[k]
        strength = _strength_among_few(label, near, first, size, weights)
        score = np.float64(strength) - factor * np.float64(other_volumes[np.uint64(label)])
        better = (score > best_score) | ((score == best_score) & (label < best))
        if len(anchors) > 0:
            better &= anchors[np.uint64(label)] >= 0
        # Three selections and no branch, as which label is better cannot be foretold.
        best = label if better else best
        best_strength = strength if better else best_strength
        best_score = score if better else best_score
    return best, best_strength - own_strength


@compiled(parallel=True)
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
    keys,
    totals,
    used,
):
    """Give every node of a block its best label; returns the labels before, and what the edges inside clusters gained.

    The score of a node x for label c is  sum of its edge weights to c - penalty * w_x * V(c)  (DESIGN: the other side's
    labels and volumes stand still, so the nodes are independent). Candidates are the neighbors' labels and the present
    one. `anchors` is empty, or holds for every label the one node that must not leave it (-1 for a label that has no
    node on this side, which then is no candidate: the occupied labels stay the same).
    """
    previous = np.empty(len(nodes), labels.dtype)
    chunks = len(bounds) - 1
    held = len(anchors) > 0
    num_labels = len(other_volumes)
    starts, ends = offsets[:-1], offsets[1:]
    gained = np.zeros(chunks, np.int64)
    for chunk in prange(chunks):
        table = keys[chunk], totals[chunk], used[chunk]
        near = np.empty(_TILE, keys.dtype)
        gain = 0
        stop = bounds[chunk + 1]
        for k in range(bounds[chunk], stop):
            _ask_ahead(k, stop, nodes, starts, ends, neighbors, weights, other_labels)
            _ask_for_volumes(k, stop, nodes, starts, ends, neighbors, labels, anchors, other_labels, other_volumes)
            node = nodes[k]
            own = labels[node]
            previous[k] = own
            if held and anchors[own] == node:
                continue
            first, last = offsets[node], offsets[node + 1]
            factor = penalty * np.float64(node_weights[node])
            if last - first <= _FEW:
                labels[node], gained_here = _best_among_few(
                    first, last, neighbors, weights, own, factor, anchors, other_labels, other_volumes, near
                )
                gain += gained_here
                continue
            mask = _mask_for(min(last - first, num_labels))
            distinct = _add_edges(first, last, neighbors, weights, other_labels, mask, *table, near, 0)
            own_strength = 0
            for place in range(distinct):
                if keys[chunk, used[chunk, place]] == own:
                    own_strength = totals[chunk, used[chunk, place]]
            best, best_strength = own, own_strength
            best_score = np.float64(own_strength) - factor * np.float64(other_volumes[own])
            for place in range(distinct):
                label, strength = _take(place, *table)
                # Volumes can only lower a score: those of a label too weak for the best need not be fetched.
                if np.float64(strength) < best_score or (held and anchors[label] < 0):
                    continue
                score = np.float64(strength) - factor * np.float64(other_volumes[label])
                if score > best_score or (score == best_score and label < best):
                    best, best_strength, best_score = label, strength, score
            labels[node] = best
            gain += best_strength - own_strength
        gained[chunk] = gain
    return previous, gained.sum()


@compiled(parallel=True)
def second_best_labels(
    bounds,
    offsets,
    neighbors,
    weights,
    node_weights,
    labels,
    owned,
    other_labels,
    other_volumes,
    penalty,
    keys,
    totals,
    used,
):
    """The best label of every node other than its own among the neighbors' labels that `owned` marks; -1 for none."""
    second = np.full(len(labels), _NO_LABEL, labels.dtype)
    num_labels = len(other_volumes)
    for chunk in prange(len(bounds) - 1):
        table = keys[chunk], totals[chunk], used[chunk]
        near = np.empty(_TILE, keys.dtype)
        for node in range(bounds[chunk], bounds[chunk + 1]):
            own = labels[node]
            first, last = offsets[node], offsets[node + 1]
            mask = _mask_for(min(last - first, num_labels))
            distinct = _add_edges(first, last, neighbors, weights, other_labels, mask, *table, near, 0)
            factor = penalty * np.float64(node_weights[node])
            best = second[node]
            best_score = -np.inf
            for place in range(distinct):
                label, strength = _take(place, *table)
                if label != own and owned[label]:
                    score = np.float64(strength) - factor * np.float64(other_volumes[label])
                    if score > best_score or (score == best_score and label < best):
                        best, best_score = label, score
            second[node] = best
    return second


@compiled(parallel=True)
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


@compiled(parallel=True)
def gather_rows(
    bounds,
    begins,
    counts,
    num_labels,
    ids,
    sums,
    keys,
    totals,
    used,
    group,
    first,
    last,
    neighbors,
    weights,
    relabel,
    more_group,
    more_first,
    more_last,
    more_neighbors,
    more_weights,
    more_relabel,
):
    """Fill the rows of a contracted graph with the relabelled neighbor lists of their members, equal ids summed.

    A chunk writes its rows one behind the other, from the place on that `begins` has for its first row; in the end
    begins[c] and counts[c] say where row c is. The last arguments are the fields of two `Members`: a row may have
    members of two kinds.
    """
    members, starts = group
    more_members, more_starts = more_group
    for chunk in prange(len(bounds) - 1):
        table = keys[chunk], totals[chunk], used[chunk]
        near = np.empty(_TILE, keys.dtype)
        stop, more_stop = starts[bounds[chunk + 1]], more_starts[bounds[chunk + 1]]
        end = begins[bounds[chunk]] if bounds[chunk] < bounds[chunk + 1] else 0
        for row in range(bounds[chunk], bounds[chunk + 1]):
            length = 0
            for k in range(starts[row], starts[row + 1]):
                length += last[members[k]] - first[members[k]]
            for k in range(more_starts[row], more_starts[row + 1]):
                length += more_last[more_members[k]] - more_first[more_members[k]]
            mask = _mask_for(min(length, num_labels))
            distinct = 0
            for k in range(starts[row], starts[row + 1]):
                _ask_ahead(k, stop, members, first, last, neighbors, weights, relabel)
                edges = first[members[k]], last[members[k]], neighbors, weights
                distinct = _add_edges(*edges, relabel, mask, *table, near, distinct)
            for k in range(more_starts[row], more_starts[row + 1]):
                _ask_ahead(
                    k, more_stop, more_members, more_first, more_last, more_neighbors, more_weights, more_relabel
                )
                edges = more_first[more_members[k]], more_last[more_members[k]], more_neighbors, more_weights
                distinct = _add_edges(*edges, more_relabel, mask, *table, near, distinct)
            count = 0
            for place in range(distinct):
                ids[end + count], sums[end + count] = _take(place, *table)
                count += ids[end + count] != row
            begins[row], counts[row] = end, count
            end += count


@compiled(parallel=True)
def best_partners(bounds, begins, counts, ids, sums, volumes, penalty):
    """The neighbor of every cluster whose merge gains most (ties to the smallest id; -1 for none), and the gain."""
    num_clusters = len(counts)
    partner = np.full(num_clusters, -1, np.int64)
    gain = np.full(num_clusters, -np.inf)
    for chunk in prange(len(bounds) - 1):
        for cluster in range(bounds[chunk], bounds[chunk + 1]):
            users, items = np.float64(volumes[cluster, 0]), np.float64(volumes[cluster, 1])
            for place in range(begins[cluster], begins[cluster] + counts[cluster]):
                if np.float64(sums[place]) < gain[cluster]:
                    continue  # volumes can only lower it: they need not be fetched
                other = ids[place]
                # Both products are symmetric in the two clusters, so both see the same gain to the last bit.
                crossing = users * np.float64(volumes[other, 1]) + items * np.float64(volumes[other, 0])
                value = np.float64(sums[place]) - penalty * crossing
                if value > gain[cluster] or (value == gain[cluster] and other < partner[cluster]):
                    partner[cluster], gain[cluster] = other, value
    return partner, gain
