"""Clustered Compositional Embeddings (CCE, arXiv 2210.05974), of one column: clusters learned while training.

Half of a side's rows are centroids, the other half a table of helpers that ids are hashed into; an embedding is the
mean of one of each. Between epochs the embeddings are clustered: the centroids and who has which are set anew, and the
helpers start again from zero, under another hash. The authors sum the two rows, where we take their mean; the epochs
after which to cluster (1, 2, 4, ..., 32) are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.kmeans import k_means
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.reassign import SharedRows


def hashed_pairs(graph: BipartiteGraph, rows: Target, seed: int) -> Sides:
    """Before any epoch: every node has one row of either half, and every row is used."""
    generator = np.random.default_rng(seed)
    sizes = (graph.num_users, graph.num_items)
    users, items = (_pairs(size, share, generator) for size, share in zip(sizes, deal_rows(sizes, rows), strict=True))
    return users, items


def cluster_embeddings(
    graph: BipartiteGraph, sides: Sequence[SharedRows], generator: np.random.Generator
) -> list[SharedRows]:
    """Cluster the expanded tables by k-means: the step that CCE takes between epochs, for sides of at least two rows.

    Of a side's rows the first half are twice the means of the clusters, so that the mean with a helper of zero is the
    cluster's. The centroid of a cluster that k-means left empty is zero.
    """
    return [side if len(side.codebook) < 2 else _clustered(side, generator) for side in sides]


def _clustered(side: SharedRows, generator: np.random.Generator) -> SharedRows:
    table, rows = side.table, len(side.codebook)
    centroids = _centroids(rows)
    codes = k_means(table, centroids, int(generator.integers(2**31)))
    sums = np.zeros((centroids, table.shape[1]))
    np.add.at(sums, codes, table)
    codebook = np.zeros((rows, table.shape[1]))
    codebook[:centroids] = 2 * sums / np.maximum(np.bincount(codes, minlength=centroids), 1)[:, None]
    return SharedRows(codebook, codes, generator.integers(centroids, rows, len(codes)), side.shares)


def _centroids(rows: int) -> int:
    return rows - rows // 2


def _pairs(size: int, rows: int, generator: np.random.Generator) -> Assignment:
    """The order of a pair does not matter to a mean: labels are dealt over both halves, so that each has an owner."""
    labels = generator.permutation(np.arange(size, dtype=np.int32) % max(rows, 1))
    if rows < 2:
        return Assignment(labels, np.full(size, NO_LABEL, dtype=np.int32))
    centroids = _centroids(rows)
    drawn = generator.integers(
        np.where(labels < centroids, centroids, 0), np.where(labels < centroids, rows, centroids)
    )
    return Assignment(labels, drawn.astype(np.int32))


METHOD = Labelled(
    name="cce",
    joint=True,
    family="learned",
    shared="clusters of k-means of the embeddings between epochs, and a row drawn (one column)",
    source="CCE, arXiv 2210.05974",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed_pairs(graph, rows, seed),
    second_rows=True,
    reassign=cluster_embeddings,
)
