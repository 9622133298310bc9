"""Planted graphs of any size, drawn where they are wanted: a billion edges on a GPU in seconds.

Every pair is a function of the seed and its number: the same on a CPU and on a GPU. Node r of a side is drawn in
proportion to a power of its rank and belongs to cluster r modulo the number of clusters; a tenth of the pairs leave
theirs. Repeated pairs count once, so that there are a few percent fewer edges than pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.graph.arrays import Adjacency
from baco_gpu.graph.bipartite import BipartiteGraph

EDGES_A_NODE = 14
NODES_A_CLUSTER = 600
NOISE = 0.1
POWER = 1.5  # of a uniform number: the node of rank r is drawn in proportion to r ** (1 / POWER - 1)
_CHUNK = 1 << 26
_DRAWS = 4  # random numbers a pair


def planted(xp: Any, pairs: int, seed: int = 0) -> BipartiteGraph:
    """A graph of so many pairs on the CPU, drawn and sorted by `xp`, NumPy or CuPy: a node for 14 pairs, two users for
    an item."""
    nodes = max(pairs // EDGES_A_NODE, 6)
    users, items = nodes - nodes // 3, nodes // 3
    clusters = max(nodes // NODES_A_CLUSTER, 1)
    keys = xp.empty(pairs, dtype=xp.int64)
    for first in range(0, pairs, _CHUNK):
        last = min(first + _CHUNK, pairs)
        keys[first:last] = _keys(xp, first, last, users, items, clusters, seed)
    keys.sort()
    keys = keys[xp.concatenate([keys[:1] >= 0, keys[1:] != keys[:-1]])]
    by_user = _rows(xp, keys, users, items)
    keys = keys % items * users + keys // items
    keys.sort()
    return BipartiteGraph(by_user, _rows(xp, keys, items, users))


def _keys(xp: Any, first: int, last: int, users: int, items: int, clusters: int, seed: int) -> Any:
    """Pairs as user * items + item."""
    user = (users * _uniform(xp, first, last, 0, seed) ** POWER).astype(xp.int64)
    cluster = user % clusters
    leaves = _uniform(xp, first, last, 1, seed) < NOISE
    other = (clusters * _uniform(xp, first, last, 2, seed)).astype(xp.int64)
    cluster = xp.where(leaves, other, cluster)
    members = (items - 1 - cluster) // clusters + 1  # the items cluster, cluster + clusters, ...
    rank = (members * _uniform(xp, first, last, 3, seed) ** POWER).astype(xp.int64)
    return user * items + cluster + clusters * rank


def _uniform(xp: Any, first: int, last: int, draw: int, seed: int) -> Any:
    """Numbers from 0 to below 1 by splitmix64 (Steele, Lea and Flood, OOPSLA 2014), of a counter."""
    words = xp.arange(first, last, dtype=xp.uint64) * np.uint64(_DRAWS) + np.uint64(draw + (seed << 40))
    words = (words + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    words = words ^ (words >> np.uint64(31))
    return (words >> np.uint64(11)).astype(xp.float64) * 2.0**-53


def _rows(xp: Any, keys: Any, rows: int, columns: int) -> Adjacency:
    """The rows of ascending keys row * columns + column, as arrays of the CPU."""
    offsets = xp.searchsorted(keys, xp.arange(rows + 1, dtype=xp.int64) * columns)
    arrays = offsets.astype(xp.int64), (keys % columns).astype(xp.int32)
    host = [array.get() if hasattr(array, "get") else array for array in arrays]
    return Adjacency(*host).frozen()
