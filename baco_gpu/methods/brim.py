"""BRIM: users take the best module given those of the items, items given those of the users, in turns.

Barber, Phys. Rev. E 76, 066102 (2007): what is maximised is bipartite modularity, and the number of modules is doubled
until that falls, then bisected. The size of the result is its own. Ours are one start at random for each number of
modules, and a bisection that ends within a sixteenth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.common.sparse import one_hot, row_best
from baco_gpu.methods.labelled import Labelled

_TURNS = 30

Modules = tuple[float, np.ndarray, np.ndarray]  # modularity, of users, of items


def brim(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> Callable[[int], Sides]:
    """Adaptive BRIM; the rows asked for play no part."""

    def solve(rows: int) -> Sides:
        matrix = graph.to_scipy()
        if not graph.num_edges:
            return coclusters(graph, (np.zeros(graph.num_users, int), np.zeros(graph.num_items, int)), secondary)
        low, high, best = 1, 2, _induce(matrix, 1, seed)
        while high <= min(matrix.shape):
            found = _induce(matrix, high, seed)
            if found[0] <= best[0]:
                break
            low, high, best = high, 2 * high, found
        while high - low > max(1, low // 16):
            middle = (low + high) // 2
            found = _induce(matrix, middle, seed)
            if found[0] > best[0]:
                low, best = middle, found
            else:
                high = middle
        return coclusters(graph, best[1:], secondary, 1.0)

    return solve


def _induce(matrix: scipy.sparse.csr_array, modules: int, seed: int) -> Modules:
    """From random modules of the items, turns until modularity no longer rises."""
    transposed = matrix.T.tocsr()
    degrees = [np.asarray(matrix.sum(axis=axis)) for axis in (1, 0)]
    items = np.random.default_rng((seed, modules)).integers(0, modules, matrix.shape[1])
    best: Modules = (-np.inf, np.zeros(matrix.shape[0], int), items)
    for _ in range(_TURNS):
        users, _ = _best_modules(matrix, degrees[0], items, degrees[1], modules)
        items, modularity = _best_modules(transposed, degrees[1], users, degrees[0], modules)
        if modularity <= best[0]:
            break
        best = (modularity, users, items)
    return best


def _best_modules(
    matrix: scipy.sparse.csr_array, degrees: np.ndarray, others: np.ndarray, other_degrees: np.ndarray, modules: int
) -> tuple[np.ndarray, float]:
    """The module of every row that gains most, and the modularity of them all."""
    volumes = np.bincount(others, weights=other_degrees, minlength=modules)
    total = degrees.sum()
    gains = scipy.sparse.csr_array(matrix @ one_hot(others, modules))
    gains.data -= np.repeat(degrees, np.diff(gains.indptr)) * volumes[gains.indices] / total
    labels, values = row_best(gains)
    # A module that a row has no edge to loses least where it is lightest.
    lightest = int(volumes.argmin())
    alone = -degrees * volumes[lightest] / total
    labels = np.where(alone > values, lightest, labels)
    return labels, float(np.maximum(values, alone).sum() / total)


METHOD = Labelled(
    name="brim",
    family="modularity",
    shared="the best modules of users and items in turns",
    source="Barber, Phys. Rev. E 76, 066102",
    size="own",
    secondary="none",
    solver=brim,
)
