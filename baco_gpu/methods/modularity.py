"""Louvain and Leiden of scikit-network: Barber's bipartite modularity, its resolution tuned to a number of rows."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package

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
    """One run at this resolution; MissingExtraError if scikit-network is not installed."""
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


def _run(solver: type, graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    model = solver(resolution=resolution, modularity="dugue", random_state=seed)
    # It takes SciPy's older matrix interface only.
    model.fit(scipy.sparse.csr_matrix(graph.to_scipy(), dtype=np.float64), force_bipartite=True)
    return ModularityClustering(model.labels_row_, model.labels_col_, resolution)


def _search(
    solve_at: Callable[[BipartiteGraph, float, int], ModularityClustering],
    graph: BipartiteGraph,
    seed: int,
    secondary: tuple[bool, bool] = NEITHER,
) -> KnobSearch:
    """One of the two at the resolution that a number of rows asks for; see `KnobSearch`."""

    def solve(resolution: float) -> Sides:
        users, items, _ = solve_at(graph, resolution, seed)
        return coclusters(graph, (users, items), secondary, resolution)

    return KnobSearch(solve_at.__name__, solve, *_RESOLUTIONS)


louvain_search = partial(_search, louvain)

LOUVAIN = Labelled(
    name="louvain",
    family="modularity",
    shared="communities of Louvain (GraphHash)",
    source="GraphHash, arXiv 2412.17245",
    secondary="none",
    solver=louvain_search,
    requires=Package("sknetwork", "scikit-network"),
)
LEIDEN = replace(
    LOUVAIN,
    name="leiden",
    shared="communities of Leiden",
    source="Traag et al., Scientific Reports 9, 2019",
    solver=partial(_search, leiden),
)
