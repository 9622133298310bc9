"""Information-theoretic co-clustering (Dhillon, Mallela, Modha, KDD 2003): what loses least mutual information.

Ours are the floor below, at most twenty turns, and what becomes of an empty cluster.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.common.sparse import one_hot, row_best
from baco_gpu.methods.labelled import Labelled

_TURNS = 20
# What a cluster's distribution has where it has nothing: the divergence from it is large, and not infinite, since a
# start at random has no cluster that covers all of a node's.
_FLOOR = 1e-6


def information_theoretic(graph: BipartiteGraph, rows: Target, seed: int) -> Sides:
    """Users and items in turns take the cluster whose distribution over the other side's clusters is nearest.

    Clusters start at random. One that loses all members gets a node that fits its own worst.
    """
    matrix = graph.to_scipy()
    matrix.data /= matrix.data.sum() or 1.0
    transposed = matrix.T.tocsr()
    shares = deal_rows((graph.num_users, graph.num_items), rows)
    generator = np.random.default_rng(seed)
    users, items = (
        generator.permutation(size) % max(share, 1) for size, share in zip(matrix.shape, shares, strict=True)
    )
    for _ in range(_TURNS):
        before = users, items
        users = _nearest(matrix, users, shares[0], items, shares[1])
        items = _nearest(transposed, items, shares[1], users, shares[0])
        if np.array_equal(users, before[0]) and np.array_equal(items, before[1]):
            break
    return Assignment(users.astype(np.int32)), Assignment(items.astype(np.int32))


def _nearest(matrix: scipy.sparse.csr_array, own: np.ndarray, count: int, other: np.ndarray, others: int) -> np.ndarray:
    """The cluster of least Kullback-Leibler divergence for every row.

    That is the greatest sum over the other side's clusters of p(row, cluster) log q(cluster | own cluster); with the
    floor taken out of the logarithm, a product of sparse matrices.
    """
    spread = scipy.sparse.csr_array(matrix @ one_hot(other, others))
    joint = scipy.sparse.csr_array(one_hot(own, count).T @ spread)
    mass = np.asarray(joint.sum(axis=1))
    joint.data = np.log1p(joint.data / np.repeat(mass, np.diff(joint.indptr)) / _FLOOR)
    labels, fit = row_best(scipy.sparse.csr_array(spread @ joint.T))
    labels = np.where(labels < 0, own, labels)
    return _refilled(labels, count, fit / np.maximum(np.asarray(matrix.sum(axis=1)), np.finfo(float).tiny))


def _refilled(labels: np.ndarray, count: int, fit: np.ndarray) -> np.ndarray:
    """The labels with every empty one given to the node that fits its own worst; none loses its best member."""
    empty = np.flatnonzero(np.bincount(labels, minlength=count) == 0)
    if not len(empty):
        return labels
    order = np.argsort(fit, kind="stable")
    _, last = np.unique(labels[order][::-1], return_index=True)
    keeps = np.zeros(len(labels), dtype=bool)
    keeps[order[::-1][last]] = True
    spare = order[~keeps[order]][: len(empty)]
    labels = labels.copy()
    labels[spare] = empty[: len(spare)]
    return labels


METHOD = Labelled(
    name="itcc",
    family="information",
    shared="clusters that lose least mutual information, users and items apart",
    source="Dhillon et al., KDD 2003",
    by_side=True,
    solver=lambda graph, seed: lambda rows: information_theoretic(graph, rows, seed),
)
