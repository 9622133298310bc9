"""A graph of which every rank has some interactions: each gets its users with their edges, and its items with theirs.

What one process says of the whole graph (degrees, the integers that weights become, twins, the checksum) comes from
what all ranks have, the same to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import IntegerEdges
from baco_gpu.clustering.backends.share import GraphShare, even_cuts
from baco_gpu.clustering.solve.weights import EdgeWeights, integer_degrees, rounded, unit_of
from baco_gpu.data.exact_sum import ExactSum
from baco_gpu.data.interactions import Interactions
from baco_gpu.distributed.on_host import OnHost
from baco_gpu.distributed.shared_twins import first_twins
from baco_gpu.graph.arrays import Adjacency, add_to_digest
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.graph.building import rows_of_users
from baco_gpu.graph.grouping import group_by_row, row_offsets

_PIECE = 1 << 22  # entries that go to the first rank at once


def at_home(ranks: OnHost, interactions: Interactions) -> tuple[Interactions, np.ndarray]:
    """The interactions that all ranks have of this one's users, in their order, and the bounds of the ranks' users.

    `interactions` are those that this rank has, by the numbers of all; sizes and vocabularies are those of all ranks.
    """
    counts = ranks.add(np.bincount(interactions.users, minlength=interactions.num_users))
    bounds = even_cuts(counts, ranks.size)
    columns = [interactions.users, interactions.items, interactions.weights, interactions.timestamps]
    users, items, weights, timestamps = _sent_home(ranks, columns, interactions.users, bounds)
    return replace(interactions, users=users, items=items, weights=weights, timestamps=timestamps), bounds


def share_of_interactions(ranks: OnHost, own: Interactions, bounds: np.ndarray) -> GraphShare:
    """The share of the graph of all interactions, as `BipartiteGraph.from_interactions` makes it of them.

    Parameters
    ----------
    own : Interactions
        All those of the users that this rank has, in their order.
    bounds : int64 array of shape (ranks + 1,)
        Rank r has the users bounds[r] to bounds[r + 1] - 1.

    Raises
    ------
    InputError
        As `BipartiteGraph.from_interactions` and `integer_edges`.
    """
    sizes = own.num_users, own.num_items
    csr = ranks.together(
        lambda: rows_of_users(own.users, own.items, own.weights, *sizes, "drop" if own.weights is None else "sum")
    )
    first, last = bounds[ranks.rank : ranks.rank + 2]
    item_degrees = ranks.add(np.bincount(csr.neighbors, minlength=own.num_items))
    item_bounds = even_cuts(item_degrees, ranks.size)
    csc = _rows_of_items(ranks, csr, own.num_items, item_bounds)
    both = bounds, item_bounds
    edges, total = _integer_edges(ranks, (csr, csc), both)
    user_degrees = _whole(ranks, csr.degrees[first:last])
    return GraphShare(
        own=BipartiteGraph(
            replace(csr, weights=None), replace(csc, weights=None), own.user_vocabulary, own.item_vocabulary
        ),
        edges=edges,
        bounds=both,
        twins=(first_twins(ranks, csr, bounds), first_twins(ranks, csc, item_bounds)),
        user_degrees=user_degrees,
        item_degrees=item_degrees,
        num_edges=int(user_degrees.sum()),
        total_weight=total,
        sha256=_checksum(ranks, csr, user_degrees, own.num_items),
    )


def _sent_home(ranks: OnHost, columns: list[np.ndarray | None], nodes: np.ndarray, bounds: np.ndarray) -> list[Any]:
    """The entries of columns that all ranks have of this one's nodes, in their order."""
    home = np.repeat(np.arange(ranks.size, dtype=np.int32), np.diff(bounds))[nodes]
    offsets = row_offsets(home, ranks.size)
    counts = ranks.table(*np.diff(offsets).tolist())
    return [
        None if column is None else ranks.exchange(group_by_row(home, column, offsets), counts) for column in columns
    ]


def _rows_of_items(ranks: OnHost, csr: Adjacency, num_items: int, bounds: np.ndarray) -> Adjacency:
    """The users of this rank's items; ranks have users in ascending order, so that they arrive in it."""
    users = np.repeat(np.arange(csr.num_rows, dtype=csr.neighbors.dtype), csr.degrees)
    users, items, weights = _sent_home(ranks, [users, csr.neighbors, csr.weights], csr.neighbors, bounds)
    offsets = row_offsets(items, num_items)
    return Adjacency(
        offsets=offsets,
        neighbors=group_by_row(items, users, offsets),
        weights=None if weights is None else group_by_row(items, weights, offsets),
    )


def _integer_edges(
    ranks: OnHost, sides: tuple[Adjacency, Adjacency], bounds: tuple[np.ndarray, np.ndarray]
) -> tuple[IntegerEdges, float]:
    """The integer weights of this rank's edges and the degrees of all nodes, and the summed weight of all edges."""
    weights = None
    if sides[0].weights is not None:
        mine = EdgeWeights.of(sides[0].weights)
        total = ExactSum(ranks.add(mine.total.bins))
        found = ranks.table(mine.number, mine.are_whole, int(np.array(mine.smallest).view(np.int64)))
        smallest = found[:, 2].copy().view(np.float64).min()
        weights = EdgeWeights(int(found[:, 0].sum()), total, float(smallest), bool(found[:, 1].all()))
    unit = unit_of(weights)
    values = [rounded(side, weights, unit) for side in sides]
    users, items = (
        _whole(ranks, integer_degrees(side, edges)[cut[ranks.rank] : cut[ranks.rank + 1]])
        for side, edges, cut in zip(sides, values, bounds, strict=True)
    )
    total_weight = float(users.sum() if weights is None else weights.total)
    return IntegerEdges((values[0], values[1]), (users, items), unit), total_weight


def _whole(ranks: OnHost, own: np.ndarray) -> np.ndarray:
    """The arrays of all ranks, one after another."""
    return np.concatenate(ranks.gather(own, ranks.table(len(own))[:, 0].tolist()))


def _checksum(ranks: OnHost, csr: Adjacency, user_degrees: np.ndarray, num_items: int) -> str:
    """As `BipartiteGraph.checksum`: edges go by the first rank, which sees them in their order."""
    digest = hashlib.sha256()
    digest.update(np.array([len(user_degrees), num_items, user_degrees.sum()], dtype="<i8").tobytes())
    add_to_digest(digest, np.concatenate(([0], np.cumsum(user_degrees))), "<i8")
    _pass_by_first(ranks, csr.neighbors, lambda piece: add_to_digest(digest, piece, "<i8"))
    weights = csr.weights
    if weights is not None and ranks.table(bool((weights != 1).any())).any():
        _pass_by_first(ranks, weights, lambda piece: add_to_digest(digest, piece, "<f8"))
    words = np.frombuffer(digest.digest(), dtype="<i8")
    first: np.ndarray = ranks.table(*words.tolist())[0]
    return first.astype("<i8").tobytes().hex()


def _pass_by_first(ranks: OnHost, own: np.ndarray, see: Callable[[np.ndarray], None]) -> None:
    """Let the first rank see the arrays of all, one after another, in pieces."""
    lengths = ranks.table(len(own))[:, 0].tolist()
    if ranks.rank == 0:
        see(own)
    for rank, length in list(enumerate(lengths))[1:]:
        for start in range(0, length, _PIECE):
            counts = np.zeros((ranks.size, ranks.size), dtype=np.int64)
            counts[rank, 0] = min(_PIECE, length - start)
            arrived = ranks.exchange(own[start : start + _PIECE] if ranks.rank == rank else own[:0], counts)
            if ranks.rank == 0:
                see(arrived)
