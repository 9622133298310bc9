"""Information-theoretic co-clustering (Dhillon, Mallela, Modha, KDD 2003): what loses least mutual information.

The algorithm of that paper moves all nodes at once to the cluster whose distribution is nearest. A cluster of a few
nodes is nearest to those whose mean it is, so that of small clusters nearly all nodes stay where chance has put them.
Dhillon and Guan (Information-theoretic clustering of sparse co-occurrence data, ICDM 2003) mend that by local search,
which moves one node at a time by the information that it really gains; that is what is done here, by itself.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.information_kernels import keep_more_information
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.common.sparse import one_hot
from baco_gpu.methods.labelled import Labelled

_TURNS = 20
# Of few clusters, where chance decides more and a start costs less, the best of several is kept.
_STARTS, _FEW_CLUSTERS = 10, 500

_Sides = tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]


def information_theoretic(graph: BipartiteGraph, rows: Target, seed: int) -> Sides:
    """Users and items in turns, one after another, take the cluster that keeps the most mutual information.

    Clusters start at random, and none is left by its last node. Nodes without an edge share a cluster.
    """
    matrix = scipy.sparse.csr_array(graph.to_scipy().astype(np.float64))
    sides = matrix, matrix.T.tocsr()
    dealt = deal_rows((graph.num_users, graph.num_items), rows)
    shares = max(dealt[0], 1), max(dealt[1], 1)
    generator = np.random.default_rng(seed)
    starts = range(_STARTS if sum(shares) <= _FEW_CLUSTERS else 1)
    found = [_clustered(sides, shares, generator) for _ in starts]
    best = max(found, key=lambda labels: _information(matrix, labels, shares))
    users, items = (Assignment(side.astype(np.int32)) for side in best)
    return users, items


def _clustered(sides: _Sides, shares: tuple[int, int], generator: np.random.Generator) -> list[np.ndarray]:
    labels = [_dealt(side, share, generator) for side, share in zip(sides, shares, strict=True)]
    for _ in range(_TURNS):
        moved = 0
        for own, side in enumerate(sides):
            spread = scipy.sparse.csr_array(side @ one_hot(labels[1 - own], shares[1 - own]))
            order = generator.permutation(np.flatnonzero(np.diff(spread.indptr)))
            offsets, partners = (part.astype(np.int64) for part in (spread.indptr, spread.indices))
            moved += keep_more_information(
                offsets, partners, spread.data, spread.shape[1], order, labels[own], shares[own]
            )
        if not moved:
            break
    return labels


def _information(matrix: scipy.sparse.csr_array, labels: list[np.ndarray], shares: tuple[int, int]) -> float:
    """The mutual information, but for what depends on the total of the weights alone."""
    users, items = (one_hot(side, share) for side, share in zip(labels, shares, strict=True))
    joint = scipy.sparse.csr_array(users.T @ matrix @ items)
    return _plogp(joint.data) - _plogp(joint.sum(axis=0)) - _plogp(joint.sum(axis=1))


def _plogp(values: np.ndarray) -> float:
    positive = values[values > 0]
    return float(positive @ np.log(positive))


def _dealt(matrix: scipy.sparse.csr_array, clusters: int, generator: np.random.Generator) -> np.ndarray:
    """Clusters by chance, as even as can be; the last one for nodes without an edge, where there are some."""
    linked = np.diff(matrix.indptr) > 0
    labels = np.full(len(linked), clusters - 1)
    own = max(clusters - 1 if not linked.all() else clusters, 1)
    labels[linked] = generator.permutation(np.arange(linked.sum()) % own)
    return labels


METHOD = Labelled(
    name="itcc",
    family="information",
    shared="clusters that lose least mutual information, users and items apart",
    source="Dhillon et al., KDD 2003",
    by_side=True,
    solver=lambda graph, seed: lambda rows: information_theoretic(graph, rows, seed),
)
