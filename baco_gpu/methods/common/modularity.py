"""Solvers of scikit-network that maximise Barber's bipartite modularity, their resolution tuned to a number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import Sides, coclusters

_RESOLUTIONS = (1e-2, 1e6)


class ModularityClustering(NamedTuple):
    """Labels that users and items share, and the resolution that gave them."""

    users: np.ndarray
    items: np.ndarray
    resolution: float

    @property
    def rows(self) -> int:
        return len(np.unique(self.users)) + len(np.unique(self.items))


def run(solver: type, graph: BipartiteGraph, resolution: float, seed: int) -> ModularityClustering:
    model = solver(resolution=resolution, modularity="dugue", random_state=seed)
    # It takes SciPy's older matrix interface only.
    model.fit(scipy.sparse.csr_matrix(graph.to_scipy(), dtype=np.float64), force_bipartite=True)
    return ModularityClustering(model.labels_row_, model.labels_col_, resolution)


def search(
    name: str,
    solve_at: Callable[[BipartiteGraph, float, int], ModularityClustering],
    graph: BipartiteGraph,
    seed: int,
    secondary: tuple[bool, bool],
) -> KnobSearch:
    def solve(resolution: float) -> Sides:
        users, items, _ = solve_at(graph, resolution, seed)
        return coclusters(graph, (users, items), secondary, resolution)

    return KnobSearch(name, solve, *_RESOLUTIONS)
