"""Louvain and Leiden, of scikit-network, their resolution tuned to a number of codebook rows.

Louvain on the bipartite graph is GraphHash (arXiv 2412.17245); with a second, hashed row it is DoubleGraphHash (the
same paper, section 4.3). Both solvers maximise Barber's bipartite modularity.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse

from baco_gpu.baselines.extras import needing
from baco_gpu.baselines.hashing import hashed_secondary
from baco_gpu.baselines.search import KnobSearch
from baco_gpu.baselines.sides import NEITHER, Sides, coclusters
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.graph.bipartite import BipartiteGraph

_RESOLUTIONS = (1e-2, 1e6)


class ModularityClustering(NamedTuple):
    """Labels that users and items share, and the resolution that gave them."""

    users: np.ndarray
    items: np.ndarray
    resolution: float

    @property
    def rows(self) -> int:
        return len(np.unique(self.users)) + len(np.unique(self.items))


def louvain(graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    """One run of scikit-network's Louvain with Barber's bipartite modularity at `resolution`.

    Raises
    ------
    MissingExtraError
        If scikit-network is not installed.
    """
    with needing("scikit-network", "louvain"):
        from sknetwork.clustering import Louvain
    return _run(Louvain, graph, resolution, seed)


def leiden(graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    """As `louvain`, by scikit-network's Leiden."""
    with needing("scikit-network", "leiden"):
        from sknetwork.clustering import Leiden
    # Its refinement draws from rand() of the C library, which `random_state` does not reach.
    ctypes.CDLL(None).srand(seed % 2**32)
    return _run(Leiden, graph, resolution, seed)


def louvain_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Louvain at the resolution that a number of rows asks for; see `KnobSearch`."""
    return _search("louvain", louvain, graph, seed, secondary)


def leiden_search(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> KnobSearch:
    """Leiden at the resolution that a number of rows asks for; see `KnobSearch`."""
    return _search("leiden", leiden, graph, seed, secondary)


def double_graph_hash(graph: BipartiteGraph, seed: int) -> Callable[[int], Sides]:
    """DoubleGraphHash: Louvain's label and a row drawn by chance; the embedding is the mean of the two."""
    search = louvain_search(graph, seed)

    def solve(rows: int) -> Sides:
        generator = np.random.default_rng(seed)
        users, items = (_doubled(side.labels, generator) for side in search(rows))
        return users, items

    return solve


def _doubled(labels: np.ndarray, generator: np.random.Generator) -> Assignment:
    second = hashed_secondary(labels, generator)
    return Assignment(labels, np.where(second == labels, NO_LABEL, second))


def _run(solver: type, graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    model = solver(resolution=resolution, modularity="dugue", random_state=seed)
    # It takes SciPy's older matrix interface only.
    model.fit(scipy.sparse.csr_matrix(graph.to_scipy(), dtype=np.float64), force_bipartite=True)
    return ModularityClustering(model.labels_row_, model.labels_col_, resolution)


def _search(
    name: str,
    run: Callable[[BipartiteGraph, float, int], ModularityClustering],
    graph: BipartiteGraph,
    seed: int,
    secondary: tuple[bool, bool],
) -> KnobSearch:
    def solve(resolution: float) -> Sides:
        users, items, _ = run(graph, resolution, seed)
        return coclusters(graph, (users, items), secondary, resolution)

    return KnobSearch(name, solve, *_RESOLUTIONS)
