"""The compiled loops of the CPU backend over edges (Numba, without the interpreter's lock).

A loop goes over a chunk of nodes or clusters, from `begin` to `end`, with a table of its own, and writes only to places
that belong to the chunk, so that chunks may run side by side. Sums are sums of integers, scores are plain float64
products and differences (Numba contracts nothing into fused multiply-adds), and ties go to the smallest label: the
result does not depend on the chunks.

`weights` is an int64 array or None, which stands for 1 on every edge; Numba compiles a version without the look-up.

Loops over lists ask ahead (`_ask_ahead`): a list is short and the next one elsewhere, so that every list would wait for
memory several times over. What they see ahead starts a transfer, and decides nothing.

No kernel calls one of another file: the cache of compiled code on the disk notices changes of a kernel's own file only.

Edges are summed by label in a `Table` of cpu_tables.py, which is empty on entry and on return. Where a total for every
label stays in a near cache, it has just that; above, it is a hash table no larger than the list at hand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from baco_gpu.clustering.backends.cpu_merging import BOUND, CHANGED, ITEM_VOLUME, STATE, USER_VOLUME
from baco_gpu.clustering.backends.cpu_nodes import GOLDEN
from baco_gpu.compiling import PART, compiled
from baco_gpu.prefetch import prefetch


class Members(NamedTuple):
    """The members of every cluster, and the neighbor list of every member.

    `members` are in the order of their clusters, those of cluster k from starts[k] to starts[k + 1]. The list of member
    x is neighbors[first[x]:last[x]], with the edge weights at the same places (None for 1), and `relabel` has the
    cluster of each neighbor.
    """

    members: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    last: np.ndarray
    neighbors: np.ndarray
    edge_weights: np.ndarray | None
    relabel: np.ndarray

    def none(self) -> Members:
        """No members at all, of the same kind."""
        return self._replace(members=self.members[:0], starts=np.zeros_like(self.starts))


_NO_LABEL = -1
_FEW = 16
# How many lists ahead their ends, their edges, the labels of these and the volumes of those are fetched; a step reads
# what the one before it has brought. Of a long list only the head is: in the rest the processor foresees what comes.
_ENDS_AHEAD, _EDGES_AHEAD, _LABELS_AHEAD, _VOLUMES_AHEAD = 12, 6, 3, 1
_HEAD = 128
_LINE = 16  # ids that come with one fetch, of the narrower kind
# Lists of so many edges and ends that are gone through in order, and so many labels and their volumes, stay in a cache
# that is near enough without asking, which takes as long as what it is for.
_FAR = 1 << 19
_NEAR = 1 << 17
# So many places ahead in a table, the facts of a cluster are asked for; of so many clusters they stay near enough.
_FACTS_AHEAD, _FAR_FACTS = 12, 1 << 14


@njit(**PART)
def _mask_for(keys, bound):
    """The greatest slot of a hash table in which `bound` labels take at most half of the slots."""
    size = 4
    if keys is not None:
        while size < 2 * bound:
            size *= 2
    return np.uint64(size - 1)


@njit(**PART)
def _slot_of(label, keys, mask):
    """The slot of a label, or the one that it would take."""
    if keys is None:
        return np.uint64(label)
    slot = ((np.uint64(label) * GOLDEN) >> np.uint64(32)) & mask
    while (keys[slot] != label) & (keys[slot] != _NO_LABEL):
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(**PART)
def _add_edges(first, last, neighbors, weights, label_of, mask, distinct, keys, totals, used):
    """Add edges to the table under the labels of their ends.

    `distinct` is how many labels there were before; returned is how many there are now.
    """
    for e in range(first, last):
        # Unsigned, so that Numba need not ask whether it counts from the end.
        label = label_of[np.uint64(neighbors[np.uint64(e)])]
        slot = _slot_of(label, keys, mask)
        total = totals[slot]
        # Without a branch, since which labels are new cannot be foretold.
        used[distinct] = slot
        if keys is None:
            distinct += total == 0
        else:
            distinct += keys[slot] == _NO_LABEL
            keys[slot] = label
        totals[slot] = total + (1 if weights is None else weights[np.uint64(e)])
    return distinct


@njit(**PART)
def _total(label, mask, keys, totals):
    """What the edges to a label sum to."""
    return np.int64(totals[_slot_of(label, keys, mask)])


@njit(**PART)
def _label_at(place, keys, used):
    """The label at a place of the table."""
    return np.int64(used[place]) if keys is None else np.int64(keys[used[place]])


@njit(**PART)
def _take(place, keys, totals, used):
    """The label at a place and what its edges sum to; its slot is empty again."""
    slot = np.uint64(used[place])
    total = np.int64(totals[slot])
    totals[slot] = 0
    if keys is None:
        return np.int64(slot), total
    label = np.int64(keys[slot])
    keys[slot] = _NO_LABEL
    return label, total


@njit(**PART)
def _ask_ahead(k, stop, nodes, first, last, neighbors, weights, label_of):
    """Ask memory for what the walk over `nodes` up to `stop`, now at k, will need soon."""
    if k + _ENDS_AHEAD < stop:
        prefetch(first, np.uint64(nodes[np.uint64(k + _ENDS_AHEAD)]))
    if k + _EDGES_AHEAD < stop:
        begin = first[np.uint64(nodes[np.uint64(k + _EDGES_AHEAD)])]
        prefetch(neighbors, begin)
        prefetch(neighbors, begin + _LINE)
        prefetch(weights, begin)
        prefetch(weights, begin + _LINE)
    if k + _LABELS_AHEAD < stop and len(label_of) > _NEAR:
        later = np.uint64(nodes[np.uint64(k + _LABELS_AHEAD)])
        for e in range(first[later], min(last[later], first[later] + _HEAD)):
            prefetch(label_of, neighbors[np.uint64(e)])


@njit(**PART)
def _ask_for_volumes(k, stop, nodes, first, last, neighbors, labels, anchors, other_labels, other_volumes):
    """Ask memory for the volumes, and anchors, of the labels that the node after the k-th will choose from."""
    if k + _VOLUMES_AHEAD < stop and len(other_volumes) > _NEAR:
        later = np.uint64(nodes[np.uint64(k + _VOLUMES_AHEAD)])
        prefetch(other_volumes, labels[later])
        for e in range(first[later], min(last[later], first[later] + _HEAD)):
            label = other_labels[np.uint64(neighbors[np.uint64(e)])]
            prefetch(other_volumes, label)
            prefetch(anchors, label)


@njit(**PART)
def _add_lists(k, end, sides, mask, keys, totals, used):
    """Add the lists of the k-th cluster's members, which `sides` has as two `Members`; returns how many labels."""
    distinct = 0
    for members, starts, first, last, neighbors, weights, relabel in sides:
        for m in range(starts[k], starts[k + 1]):
            _ask_ahead(m, starts[end], members, first, last, neighbors, weights, relabel)
            x = np.uint64(members[np.uint64(m)])
            distinct = _add_edges(first[x], last[x], neighbors, weights, relabel, mask, distinct, keys, totals, used)
    return distinct


@njit(inline="always")
def _best_of_table(own, factor, anchors, other_volumes, mask, distinct, keys, totals, used):
    """The best of the labels in the table and the node's own, and what the edges inside clusters gain by it."""
    own_strength = _total(own, mask, keys, totals)
    best, best_strength = own, own_strength
    best_score = np.float64(own_strength) - factor * np.float64(other_volumes[np.uint64(own)])
    if distinct <= _FEW:
        for place in range(distinct):
            label, strength = _take(place, keys, totals, used)
            score = np.float64(strength) - factor * np.float64(other_volumes[np.uint64(label)])
            better = (score > best_score) | ((score == best_score) & (label < best))
            if len(anchors) > 0:
                better &= anchors[np.uint64(label)] >= 0
            # Three selections and no branch, as which label is better cannot be foretold.
            best = label if better else best
            best_strength = strength if better else best_strength
            best_score = score if better else best_score
    else:
        for place in range(distinct):
            label, strength = _take(place, keys, totals, used)
            # Volumes can only lower a score: those of a label too weak for the best need not be fetched.
            if np.float64(strength) < best_score or (len(anchors) > 0 and anchors[np.uint64(label)] < 0):
                continue
            score = np.float64(strength) - factor * np.float64(other_volumes[np.uint64(label)])
            if score > best_score or (score == best_score and label < best):
                best, best_strength, best_score = label, strength, score
    return best, best_strength - own_strength


@compiled(nogil=True)
def best_labels(
    begin,
    end,
    nodes,
    offsets,
    neighbors,
    weights,
    node_weights,
    labels,
    other_labels,
    other_volumes,
    anchors,
    penalty,
    previous,
    keys,
    totals,
    used,
):
    """Give every node of a block its best label; returns what the edges inside clusters gain.

    The score of a node x for label c is  sum of its edge weights to c - penalty * w_x * V(c)  (DESIGN: the other side's
    labels and volumes stand still, so the nodes are independent). Candidates are the neighbors' labels and the present
    one. `anchors` is empty, or holds for every label the one node that must not leave it (-1 for a label that has no
    node on this side, which then is no candidate: the occupied labels stay the same). `previous` gets the labels
    before.
    """
    starts, ends = offsets[:-1], offsets[1:]
    far = len(neighbors) + 2 * len(starts) > _FAR
    gained = np.int64(0)
    for k in range(begin, end):
        if far:
            _ask_ahead(k, end, nodes, starts, ends, neighbors, weights, other_labels)
            _ask_for_volumes(k, end, nodes, starts, ends, neighbors, labels, anchors, other_labels, other_volumes)
        node = np.uint64(nodes[np.uint64(k)])
        own = np.int64(labels[node])
        previous[k] = own
        if len(anchors) > 0 and anchors[np.uint64(own)] == np.int64(node):
            continue
        first, last = starts[node], ends[node]
        factor = penalty * np.float64(node_weights[node])
        mask = _mask_for(keys, min(last - first, len(other_volumes)))
        distinct = _add_edges(first, last, neighbors, weights, other_labels, mask, 0, keys, totals, used)
        best, gain = _best_of_table(own, factor, anchors, other_volumes, mask, distinct, keys, totals, used)
        labels[node] = best
        gained += gain
    return gained


@compiled(nogil=True)
def second_best_labels(
    begin,
    end,
    nodes,
    offsets,
    neighbors,
    weights,
    node_weights,
    labels,
    other_labels,
    other_volumes,
    owned,
    penalty,
    second,
    keys,
    totals,
    used,
):
    """The best label of every node other than its own among the neighbors' labels that `owned` marks; -1 for none."""
    for node in nodes[begin:end]:
        own = labels[node]
        first, last = offsets[node], offsets[node + 1]
        mask = _mask_for(keys, min(last - first, len(other_volumes)))
        distinct = _add_edges(first, last, neighbors, weights, other_labels, mask, 0, keys, totals, used)
        factor = penalty * np.float64(node_weights[node])
        best, best_score = np.int64(_NO_LABEL), -np.inf
        for place in range(distinct):
            label, strength = _take(place, keys, totals, used)
            if label != own and owned[label]:
                score = np.float64(strength) - factor * np.float64(other_volumes[label])
                if score > best_score or (score == best_score and label < best):
                    best, best_score = label, score
        second[node] = best


@compiled(nogil=True)
def gather_rows(
    begin,
    end,
    room,
    begins,
    counts,
    num_labels,
    ids,
    sums,
    sides,
    keys,
    totals,
    used,
):
    """Fill the rows of a contracted graph with the relabelled neighbor lists of their members, equal ids summed.

    A chunk writes its rows one behind the other, from the place on that `begins` has for its first row; in the end
    begins[c] and counts[c] say where row c is. Its members' lists have room[c] edges. `sides` are two `Members`: a
    row may have members of two kinds.
    """
    place = begins[begin] if begin < end else 0
    for k in range(begin, end):
        mask = _mask_for(keys, min(room[k], num_labels))
        distinct = _add_lists(k, end, sides, mask, keys, totals, used)
        count = 0
        for found in range(distinct):
            ids[place + count], sums[place + count] = _take(found, keys, totals, used)
            count += ids[place + count] != k
        begins[k], counts[k] = place, count
        place += count


@compiled(nogil=True)
def best_merges(
    begin,
    end,
    clusters,
    costs,
    facts,
    penalty,
    merges,
    own,
    offering,
    offers,
    givers,
    gains,
    sides,
    keys,
    totals,
    used,
):
    """Find the best two merges of clusters, straight from their members' edges, and a bound of what all others gain.

    Ties go to the smallest label. `own` gets what the members' edges to their own cluster sum to, those of both sides,
    thus twice the weight within. Where `offering`, merges that neighbors which have not changed need to know of are
    offered; returned is how many. `sides` are the `Members` of users and of items.
    """
    partner, gain, next_partner, next_gain = merges
    offered = 0
    lines = facts[:, USER_VOLUME]
    far = len(facts) > _FAR_FACTS
    for k in range(begin, end):
        c = np.int64(clusters[k])
        mask = _mask_for(keys, min(costs[k], len(facts)))
        distinct = _add_lists(k, end, sides, mask, keys, totals, used)
        own[c] = _total(c, mask, keys, totals)
        user_volume, item_volume = facts[c, USER_VOLUME], facts[c, ITEM_VOLUME]
        best, best_gain = np.int64(-1), -np.inf
        second, second_gain = np.int64(-1), -np.inf
        bound = -np.inf
        for place in range(distinct):
            if far and place + _FACTS_AHEAD < distinct:
                prefetch(lines, _label_at(place + _FACTS_AHEAD, keys, used))
            label, total = _take(place, keys, totals, used)
            if label == c:
                continue
            other = np.uint64(label)
            strength = np.float64(total)
            # Volumes can only lower a gain.
            useful = offering and facts[other, STATE] != CHANGED and strength >= facts[other, BOUND]
            if strength < bound and not useful:
                continue
            # Both products are symmetric in the two clusters, so both see the same gain to the last bit.
            value = strength - penalty * (
                user_volume * facts[other, ITEM_VOLUME] + item_volume * facts[other, USER_VOLUME]
            )
            if value > best_gain or (value == best_gain and label < best):
                bound = second_gain
                second, second_gain = best, best_gain
                best, best_gain = label, value
            elif value > second_gain or (value == second_gain and label < second):
                bound = second_gain
                second, second_gain = label, value
            elif value > bound:
                bound = value
            if useful and value >= facts[other, BOUND]:
                offers[offered], givers[offered], gains[offered] = label, c, value
                offered += 1
        partner[c], gain[c], next_partner[c], next_gain[c] = best, best_gain, second, second_gain
        facts[c, BOUND] = bound
    return offered
