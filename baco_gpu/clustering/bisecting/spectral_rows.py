"""A spectral embedding of both sides: who has alike neighbors has alike rows."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.clustering.backends.backend import NodeWeights
from baco_gpu.clustering.backends.cpu_nodes import signs_of_nodes
from baco_gpu.clustering.bisecting.spectral_loops import (
    BLOCK,
    add_grams,
    eigenvectors,
    orthonormalising,
    times_adjacency,
    times_square,
)
from baco_gpu.compiling import on_threads
from baco_gpu.graph.bipartite import Adjacency, BipartiteGraph

DIMENSIONS = 64
LARGEST = 2.0**22  # sums of 64 products of numbers of 24 and of 23 bits are exact in float64
# More columns than are kept, and rounds: fewer lose recall on sparse graphs, whose singular values lie close together.
_COLUMNS = 96
_ROUNDS, _PRODUCTS = 2, 2


class SpectralRows(NamedTuple):
    """One side's rows.

    Attributes
    ----------
    rows : float32 array of shape (nodes, DIMENSIONS), whole numbers of at most `LARGEST`; zero where a node has no
        edge, and beyond the rank of the graph
    weights : float64 array of shape (nodes,), the weighted degrees, whole numbers
    """

    rows: np.ndarray
    weights: np.ndarray


NO_NODES = SpectralRows(np.empty((0, DIMENSIONS), np.float32), np.empty(0))  # a side without nodes


def spectral_rows(graph: BipartiteGraph, weights: NodeWeights, seed: int) -> tuple[SpectralRows, SpectralRows]:
    """The left and the right singular vectors of N = D_users^-1/2 B D_items^-1/2, times their singular values.

    Found by subspace iteration (Halko, Martinsson and Tropp, SIAM Review 53, 2011) from random signs, the same bit for
    bit for any number of threads. Scaled so, the rows of two users are as far apart as the rows of N are, within the
    leading `DIMENSIONS` dimensions. Each side is brought to whole numbers by a power of two. The graph is on the
    CPU, and its weights are of the scheme "degree".
    """
    degrees = [side.astype(np.float64) for side in weights.nodes]
    if not graph.num_edges:
        users, items = (SpectralRows(np.zeros((len(own), DIMENSIONS), np.float32), own) for own in degrees)
        return users, items
    sides = (graph.csr, graph.csc)
    matrices = [
        _normalised(side, edges, own, other)
        for side, edges, own, other in zip(sides, weights.edges, degrees, degrees[::-1], strict=True)
    ]
    # The shorter side's basis is the one that is made orthonormal.
    short = int(len(degrees[1]) <= len(degrees[0]))
    rows = _embedded(matrices[1 - short], matrices[short], seed)
    pair = rows if short else rows[::-1]
    users, items = (SpectralRows(_whole_numbers(part), own) for part, own in zip(pair, degrees, strict=True))
    return users, items


class _Matrix(NamedTuple):
    """A sparse matrix of compressed rows, with float32 values."""

    offsets: np.ndarray
    neighbors: np.ndarray
    values: np.ndarray

    def __matmul__(self, columns: np.ndarray) -> np.ndarray:
        out = np.empty((len(self.offsets) - 1, columns.shape[1]), dtype=np.float32)
        on_threads(times_adjacency, *self, columns, out)
        return out


def _normalised(side: Adjacency, edges: Any, own: np.ndarray, other: np.ndarray) -> _Matrix:
    """The rows of one side of N."""
    values = np.ones(len(side.neighbors)) if edges is None else edges.astype(np.float64)
    values /= np.repeat(np.sqrt(own), np.diff(side.offsets))
    values /= np.sqrt(other)[side.neighbors]
    return _Matrix(side.offsets, side.neighbors, values.astype(np.float32))


def _embedded(matrix: _Matrix, transposed: _Matrix, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the long side, which `matrix` has the edges of, and of the short side."""
    sizes = [len(part.offsets) - 1 for part in (matrix, transposed)]
    basis = signs_of_nodes(sizes[1], min(_COLUMNS, sizes[1]), seed)
    for _ in range(_ROUNDS):
        for _ in range(_PRODUCTS):
            basis = transposed @ (matrix @ basis)
        basis = _times(basis, orthonormalising(_gram(basis)))
    image = matrix @ basis
    values, vectors = eigenvectors(_gram(image))
    kept = min(DIMENSIONS, len(values))
    values, vectors = values[:kept], np.ascontiguousarray(vectors[:, :kept])
    roots = np.sqrt(np.maximum(values, 0))
    rows = [np.zeros((size, DIMENSIONS), dtype=np.float32) for size in sizes]
    for out, source, turn in zip(rows, (image, basis), (vectors, vectors * roots), strict=True):
        out[:, :kept] = _times(source, turn)
    return rows[0], rows[1]


def _whole_numbers(rows: np.ndarray) -> np.ndarray:
    _, exponent = np.frexp(np.abs(rows).max())
    return np.rint(np.ldexp(rows, int(np.log2(LARGEST)) - exponent))


def _gram(rows: np.ndarray) -> np.ndarray:
    """rows.T @ rows as a float64 array."""
    columns = rows.shape[1]
    parts = np.zeros((-(-len(rows) // BLOCK), columns, columns))
    on_threads(add_grams, rows, parts)
    total = functools.reduce(np.add, parts, np.zeros((columns, columns)))
    return np.triu(total) + np.triu(total, 1).T


def _times(rows: np.ndarray, square: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), square.shape[1]), dtype=np.float32)
    on_threads(times_square, rows, square, out)
    return out
