"""The loops of label propagation and of EBMD, compiled by Numba: one node after another, in place.

Nodes are numbered users first. `members` and `volumes` have two columns, for users and for items.
"""

from __future__ import annotations

import numpy as np

from baco_gpu.compiling import compiled

_GOLDEN = 0x9E3779B97F4A7C15


@compiled()
def propagate(offsets, neighbors, order, num_users, labels, members, rows, salt):
    """One pass, ended early at `rows`; how many nodes moved, and the rows that are left."""
    counts = np.zeros(len(labels), np.int64)
    left = _count_rows(members)
    moved = 0
    for x in order:
        if left <= rows:
            break
        for edge in range(offsets[x], offsets[x + 1]):
            counts[labels[neighbors[edge]]] += 1
        best, best_count, best_tie = labels[x], np.int64(0), np.uint64(0)
        for edge in range(offsets[x], offsets[x + 1]):
            label = labels[neighbors[edge]]
            count = counts[label]
            counts[label] = 0
            tie = _hash(np.uint64(x), np.uint64(label), np.uint64(salt))
            if count > best_count or (count == best_count and count > 0 and tie > best_tie):
                best, best_count, best_tie = label, count, tie
        if best != labels[x]:
            left += _move(members, np.int64(x >= num_users), labels[x], best)
            labels[x] = best
            moved += 1
    return moved, left


@compiled()
def ascend_density(offsets, neighbors, order, num_users, labels, members, volumes, inside, rows):
    """As `propagate`, by modularity density."""
    counts = np.zeros(len(labels), np.float64)
    edges = np.float64(offsets[num_users])
    background = edges / (np.float64(num_users) * np.float64(len(labels) - num_users))
    left = _count_rows(members)
    moved = 0
    for x in order:
        if left <= rows:
            break
        side, own = np.int64(x >= num_users), labels[x]
        for edge in range(offsets[x], offsets[x + 1]):
            counts[labels[neighbors[edge]]] += 1.0
        links_own = counts[own]
        best, best_score, best_links = own, -np.inf, links_own
        degree = np.float64(offsets[x + 1] - offsets[x])
        for edge in range(offsets[x], offsets[x + 1]):
            label = labels[neighbors[edge]]
            links = counts[label]
            counts[label] = 0.0
            if links == 0.0:
                continue
            # The cluster as it is, or would be, with x in it.
            outside = label != own
            within = inside[label] + (links if outside else 0.0)
            same = volumes[label, side] + (degree if outside else 0.0)
            other = volumes[label, 1 - side]
            delta = within / (same * other) - background
            score = delta * links - delta * delta * degree * other / edges
            if score > best_score or (score == best_score and label < best):
                best, best_score, best_links = label, score, links
        if best != own:
            left += _move(members, side, own, best)
            volumes[own, side] -= degree
            volumes[best, side] += degree
            inside[own] -= links_own
            inside[best] += best_links
            labels[x] = best
            moved += 1
    return moved, left


@compiled()
def _count_rows(members):
    """The labels that users have, and those that items have."""
    rows = np.int64(0)
    for label in range(len(members)):
        rows += np.int64(members[label, 0] > 0) + np.int64(members[label, 1] > 0)
    return rows


@compiled()
def _move(members, side, old, new):
    """Move a node from label to label; the change in rows."""
    members[old, side] -= 1
    members[new, side] += 1
    return np.int64(members[new, side] == 1) - np.int64(members[old, side] == 0)


@compiled()
def _hash(node, label, salt):
    """The splitmix64 finaliser of a node, a label and a salt."""
    value = (node * np.uint64(0xD1342543DE82EF95)) ^ (label * np.uint64(_GOLDEN)) ^ (salt + np.uint64(_GOLDEN))
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
