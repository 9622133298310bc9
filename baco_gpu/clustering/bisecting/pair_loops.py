"""The compiled loops that choose rows of a codebook for nodes, and set the rows (Numba, parts of nodes or rows).

A codebook row is summed over the nodes that have it, in the order of their ids, and a distance over the dimensions in
their order: vector registers hold different rows, not different dimensions, so that no sum depends on their width.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

CELL = 64  # codebook rows whose distances are computed together
_NODES = 128  # searched for in turn


@compiled(nogil=True)
def fill_cells(part, parts, rows, cells, halves):
    """Lay codebook rows, or the means of cells, out in cells of CELL that follow each other.

    Parameters
    ----------
    rows : float32 array of shape (rows, dim)
    cells : float32 array of shape (cells, dim, CELL), to be written; lanes without a row are zero
    halves : float32 array of shape (cells, CELL), to be written: half the rows' squares; infinite without a row
    """
    for cell in range(len(cells) * part // parts, len(cells) * (part + 1) // parts):
        cells[cell] = 0
        halves[cell] = np.inf
        for lane in range(min(CELL, len(rows) - cell * CELL)):
            row = rows[cell * CELL + lane]
            cells[cell, :, lane] = row
            halves[cell, lane] = _half_square(row)


@compiled(nogil=True)
def nearest_rows(part, parts, order, rows, weights, other, present, codebook, cells, halves, first, width, out):
    """The codebook row nearest to every node, or to what its other row misses, of those in the cells that are searched.

    Cells are searched from the top: of all the cells of one level the `width` nearest ones are opened. A node changes
    to a nearer row only; of equally near rows the first is chosen.

    Parameters
    ----------
    order : int64 array of shape (nodes,), the nodes such that alike ones follow each other: they need the same memory
    rows : float32 array of shape (nodes, dim)
    weights : float64 array of shape (nodes,); a node that weighs nothing keeps its row
    other : int64 array of shape (nodes,), each node's other codebook row, -1 for none
    present : int64 array of shape (nodes,), the codebook row that it has
    codebook : float32 array of shape (codebook rows, dim)
    cells, halves : of `fill_cells`, of all levels one after the other, the top first
    first : int64 array of shape (levels + 1,), where each level starts among the cells, and their number
    width : int, at least as many as the top has cells
    out : int64 array of shape (nodes,)
    """
    chunks = (len(order) + _NODES - 1) // _NODES
    for chunk in range(chunks * part // parts, chunks * (part + 1) // parts):
        target = np.empty(rows.shape[1], np.float32)
        scores = np.empty(CELL, np.float32)
        beams, nearness = np.empty((2, width), np.int64), np.empty(width, np.float32)
        for k in range(chunk * _NODES, min((chunk + 1) * _NODES, len(order))):
            x = order[k]
            out[x] = present[x]
            if weights[x] > 0:
                target[:] = rows[x]
                if other[x] >= 0:
                    target += rows[x] - codebook[other[x]]
                out[x] = _search(target, present[x], codebook, cells, halves, first, scores, beams, nearness)


@njit
def _search(target, present, codebook, cells, halves, first, scores, beams, nearness):
    count = first[1]
    for b in range(count):
        beams[0, b] = b
    for level in range(len(first) - 2):
        found, worst = 0, np.float32(np.inf)
        beam, below = beams[level % 2], beams[(level + 1) % 2]
        for b in range(count):
            _distances(target, cells[beam[b]], halves[beam[b]], scores)
            opened = first[level + 1] + (beam[b] - first[level]) * CELL
            for lane in range(CELL):
                score = scores[lane]
                if score < worst:
                    # Insertion into the sorted few; of equal ones the first stays ahead.
                    place = min(found, len(below) - 1)
                    while place > 0 and nearness[place - 1] > score:
                        nearness[place], below[place] = nearness[place - 1], below[place - 1]
                        place -= 1
                    nearness[place], below[place] = score, opened + lane
                    found = min(found + 1, len(below))
                    if found == len(below):
                        worst = nearness[found - 1]
        count = found
    best, least = present, _distance(target, codebook[present])
    beam = beams[len(first) % 2]
    for b in range(count):
        _distances(target, cells[beam[b]], halves[beam[b]], scores)
        opened = (beam[b] - first[len(first) - 2]) * CELL
        for lane in range(CELL):
            if scores[lane] < least or (scores[lane] == least and opened + lane < best):
                best, least = opened + lane, scores[lane]
    return best


@njit
def _distances(target, cell, half, scores):
    """`_distance` from the target to every row of a cell, in steps of four dimensions."""
    for lane in range(CELL):
        scores[lane] = half[lane]
    even = len(target) // 4 * 4
    for j in range(0, even, 4):
        a, b, c, d = target[j], target[j + 1], target[j + 2], target[j + 3]
        for lane in range(CELL):
            scores[lane] = (
                scores[lane] - a * cell[j, lane] - b * cell[j + 1, lane] - c * cell[j + 2, lane] - d * cell[j + 3, lane]
            )
    for j in range(even, len(target)):
        for lane in range(CELL):
            scores[lane] = scores[lane] - target[j] * cell[j, lane]


@njit
def _distance(target, row):
    """Half the square of the distance, less half that of the target, which all rows have in common."""
    score = _half_square(row)
    for j in range(len(row)):
        score -= target[j] * row[j]
    return score


@njit
def _half_square(row):
    total = np.float32(0)
    for j in range(len(row)):
        total += row[j] * row[j]
    return total / np.float32(2)


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
