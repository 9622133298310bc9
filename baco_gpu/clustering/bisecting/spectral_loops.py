"""The compiled loops of subspace iteration (Numba, parts of rows or of blocks of rows).

Every sum has an order that neither threads nor vector registers change: that of a node's neighbors, of the columns, or
of the rows of a block and then of the blocks.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

BLOCK = 512  # rows whose products are summed in turn
_DEPENDENT = 1e-9  # of a column's square, what is left of it where the columns before it make it up
_ROTATIONS = 30  # sweeps over all pairs; eight do for 96 columns


@compiled(nogil=True)
def times_adjacency(part, parts, offsets, neighbors, values, rows, out):
    """out[x] = the sum of values[e] * rows[neighbors[e]] over the edges of x; float32 of shape (nodes, columns)."""
    for x in range(len(out) * part // parts, len(out) * (part + 1) // parts):
        total = out[x]
        total[:] = 0
        for e in range(offsets[x], offsets[x + 1]):
            value, row = values[e], rows[neighbors[e]]
            for j in range(len(total)):
                total[j] += value * row[j]


@compiled(nogil=True)
def times_square(part, parts, rows, square, out):
    """out = rows @ square, in float64 until it is stored."""
    total = np.empty(square.shape[1])
    for x in range(len(rows) * part // parts, len(rows) * (part + 1) // parts):
        total[:] = 0
        for i in range(len(square)):
            value = np.float64(rows[x, i])
            for j in range(len(total)):
                total[j] += value * square[i, j]
        out[x] = total


@compiled(nogil=True)
def add_grams(part, parts, rows, out):
    """Add the upper half of rows.T @ rows of every block of `BLOCK` rows to its place.

    `out` is a float64 array of shape (blocks, columns, columns).
    """
    columns = rows.shape[1]
    row = np.empty(columns)
    for block in range(len(out) * part // parts, len(out) * (part + 1) // parts):
        total = out[block]
        for x in range(block * BLOCK, min((block + 1) * BLOCK, len(rows))):
            row[:] = rows[x]
            for i in range(columns):
                value = row[i]
                for j in range(i, columns):
                    total[i, j] += value * row[j]


@compiled()
def orthonormalising(square):
    """The upper triangular T for which the columns of Y @ T are orthonormal, given Y.T @ Y.

    Columns of Y that those before them make up become zero.
    """
    count = len(square)
    upper = np.zeros((count, count))  # square = upper.T @ upper
    for i in range(count):
        left = square[i, i]
        for k in range(i):
            left -= upper[k, i] * upper[k, i]
        if not left > _DEPENDENT * square[i, i]:
            continue
        upper[i, i] = np.sqrt(left)
        for j in range(i + 1, count):
            value = square[i, j]
            for k in range(i):
                value -= upper[k, i] * upper[k, j]
            upper[i, j] = value / upper[i, i]
    inverse = np.zeros((count, count))
    for j in range(count):
        if upper[j, j] == 0:
            continue
        inverse[j, j] = 1 / upper[j, j]
        for i in range(j - 1, -1, -1):
            if upper[i, i] != 0:
                value = 0.0
                for k in range(i + 1, j + 1):
                    value -= upper[i, k] * inverse[k, j]
                inverse[i, j] = value / upper[i, i]
    return inverse


@compiled()
def eigenvectors(symmetric):
    """Eigenvalues, the largest first, and eigenvectors as columns, by Jacobi's rotations."""
    count = len(symmetric)
    matrix, vectors = symmetric.copy(), np.eye(count)
    scale = 0.0
    for i in range(count):
        scale += matrix[i, i]
    for _ in range(_ROTATIONS):
        rotated = False
        for p in range(count - 1):
            for q in range(p + 1, count):
                if abs(matrix[p, q]) > 1e-13 * scale:
                    rotated = True
                    _rotate(matrix, vectors, p, q)
        if not rotated:
            break
    values = np.empty(count)
    for i in range(count):
        values[i] = matrix[i, i]
    order = np.argsort(-values, kind="mergesort")
    return values[order], vectors.T[order].T


@njit
def _rotate(matrix, vectors, p, q):
    """Turn dimensions p and q so that matrix[p, q] becomes zero; `vectors` has its columns turned with them."""
    ratio = (matrix[q, q] - matrix[p, p]) / (2 * matrix[p, q])
    tangent = 1 / (abs(ratio) + np.sqrt(ratio * ratio + 1))
    if ratio < 0:
        tangent = -tangent
    cosine = 1 / np.sqrt(tangent * tangent + 1)
    sine = tangent * cosine
    for k in range(len(matrix)):
        a, b = matrix[k, p], matrix[k, q]
        matrix[k, p], matrix[k, q] = cosine * a - sine * b, sine * a + cosine * b
        a, b = vectors[k, p], vectors[k, q]
        vectors[k, p], vectors[k, q] = cosine * a - sine * b, sine * a + cosine * b
    for k in range(len(matrix)):
        a, b = matrix[p, k], matrix[q, k]
        matrix[p, k], matrix[q, k] = cosine * a - sine * b, sine * a + cosine * b
