"""The compiled loops that choose rows of a codebook for nodes, and set the rows (Numba, parts of nodes or rows).

A codebook row is summed over the nodes that have it, in the order of their ids. Where distances are compared, all are
whole numbers, of at most 2**24.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.clustering.bisecting.tree_loops import dot
from baco_gpu.compiling import compiled

_BEAM = 12  # branches of the tree that a search follows; a few of thousands of searches miss the nearest row


@compiled(nogil=True)
def nearest_rows(part, parts, order, targets, weights, present, children, centres, halves, out):
    """The codebook row nearest to every target, of those that a search down a tree comes by and the present one.

    Parameters
    ----------
    order : int64 array of shape (nodes,), the nodes such that alike ones follow each other: they need the same memory
    targets : float32 array of shape (nodes, dim)
    weights : float64 array of shape (nodes,); a node that weighs nothing keeps its row
    present : int64 array of shape (nodes,), the tree's leaves that they have
    children : int64 array of shape (tree nodes,), the first of two parts that follow each other; -1 for a leaf
    centres : float32 array of shape (tree nodes, dim); the root is node 0
    halves : float64 array of shape (tree nodes,), half the square of every centre
    out : int64 array of shape (nodes,), leaves
    """
    for k in range(len(targets) * part // parts, len(targets) * (part + 1) // parts):
        x = order[k]
        if weights[x] > 0:
            out[x] = _search(targets[x], present[x], children, centres, halves)
        else:
            out[x] = present[x]


@njit
def _search(target, present, children, centres, halves):
    best, least = present, halves[present] - dot(target, centres[present])
    if children[0] < 0:
        return np.int64(0)
    beam, wider = np.empty(_BEAM, np.int64), np.empty(_BEAM, np.int64)
    scores, count = np.empty(_BEAM), 1
    beam[0] = 0
    while count:
        found = 0
        for b in range(count):
            for node in range(children[beam[b]], children[beam[b]] + 2):
                score = halves[node] - dot(target, centres[node])
                if children[node] < 0:
                    if score < least or (score == least and node < best):
                        best, least = node, score
                elif found < _BEAM or score < scores[found - 1]:
                    # Insertion into the sorted few; of equal ones the first stays ahead.
                    place = min(found, _BEAM - 1)
                    while place > 0 and scores[place - 1] > score:
                        scores[place], wider[place] = scores[place - 1], wider[place - 1]
                        place -= 1
                    scores[place], wider[place] = score, node
                    found = min(found + 1, _BEAM)
        beam, wider = wider, beam
        count = found
    return best


@compiled()
def fill_centres(children, masses, centres):
    """Give every inner node of a tree the weighted mean of its two parts' centres; a node comes before its parts."""
    for node in range(len(children) - 1, -1, -1):
        if children[node] >= 0:
            one, two = children[node], children[node] + 1
            share = masses[one] / (masses[one] + masses[two])
            for j in range(centres.shape[1]):
                centres[node, j] = share * centres[one, j] + (1 - share) * centres[two, j]


@compiled(nogil=True)
def descend(part, parts, rows, weights, pairs, starts, nodes, codebook, damping, out):
    """A step of Jacobi's method towards the codebook that is best for the nodes' means of two rows each.

    Parameters
    ----------
    pairs : int64 array of shape (2, nodes), the codebook rows of every node
    starts, nodes : int64 arrays; codebook row r is one of the two of nodes[starts[r]:starts[r + 1]], of those twice
        that have it twice
    codebook, out : float64 arrays of shape (codebook rows, dim)
    """
    dim = codebook.shape[1]
    for r in range(len(codebook) * part // parts, len(codebook) * (part + 1) // parts):
        slope, curvature = np.zeros(dim), 0.0
        for k in range(starts[r], starts[r + 1]):
            x = nodes[k]
            row, weight = rows[x], weights[x]
            one, two = codebook[pairs[0, x]], codebook[pairs[1, x]]
            for j in range(dim):
                slope[j] += weight * (row[j] - (one[j] + two[j]) / 2)
            curvature += weight if pairs[0, x] == pairs[1, x] else weight / 2
        for j in range(dim):
            out[r, j] = codebook[r, j] + (damping * slope[j] / curvature if curvature > 0 else 0.0)


@compiled(nogil=True)
def means(part, parts, rows, weights, starts, nodes, out):
    """The weighted mean of the rows of nodes[starts[r]:starts[r + 1]], and, where they weigh nothing, zero."""
    for r in range(len(out) * part // parts, len(out) * (part + 1) // parts):
        total, mass = out[r], 0.0
        total[:] = 0
        for k in range(starts[r], starts[r + 1]):
            row, weight = rows[nodes[k]], weights[nodes[k]]
            mass += weight
            for j in range(len(total)):
                total[j] += weight * row[j]
        if mass > 0:
            total /= mass
