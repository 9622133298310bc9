"""GraphHash: Louvain on the bipartite graph, its resolution tuned to a number of codebook rows (arXiv 2412.17245)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse

from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.graph.bipartite import BipartiteGraph

_RESOLUTIONS = (1e-2, 1e6)
_SOLVES = 24


class LouvainClustering(NamedTuple):
    """Labels that users and items share, and the resolution that gave them."""

    users: np.ndarray
    items: np.ndarray
    resolution: float

    @property
    def rows(self) -> int:
        return len(np.unique(self.users)) + len(np.unique(self.items))


def louvain(graph: BipartiteGraph, resolution: float, seed: int) -> LouvainClustering:
    """One run of scikit-network's Louvain with Barber's bipartite modularity at `resolution`.

    Raises
    ------
    MissingExtraError
        If scikit-network is not installed.
    """
    try:
        from sknetwork.clustering import Louvain
    except ImportError as error:
        raise MissingExtraError("louvain needs scikit-network: pip install 'baco_gpu[baselines]'") from error
    model = Louvain(resolution=resolution, modularity="dugue", random_state=seed)
    # It takes SciPy's older matrix interface only.
    model.fit(scipy.sparse.csr_matrix(graph.to_scipy(), dtype=np.float64), force_bipartite=True)
    return LouvainClustering(model.labels_row_, model.labels_col_, resolution)


def louvain_at_rows(graph: BipartiteGraph, rows: int, seed: int, tolerance: float = 0.005) -> LouvainClustering:
    """Louvain at the resolution, found by bisection, whose codebook rows come nearest to `rows` from below.

    Raises
    ------
    InputError
        If every resolution tried leaves more rows.
    MissingExtraError
        If scikit-network is not installed.
    """
    low, high = _RESOLUTIONS
    best: LouvainClustering | None = None
    for _ in range(_SOLVES):
        clustering = louvain(graph, (low * high) ** 0.5, seed)
        if clustering.rows > rows:
            high = clustering.resolution
            continue
        low = clustering.resolution
        if best is None or clustering.rows > best.rows:
            best = clustering
        if best.rows >= rows * (1 - tolerance):
            break
    if best is None:
        raise InputError(f"louvain reaches no partition of at most {rows} codebook rows on this graph")
    return best
