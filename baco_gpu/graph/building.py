"""From a list of edges to compressed rows in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.checks import check_instance, check_integer
from baco_gpu.errors import InputError
from baco_gpu.graph.arrays import Adjacency

if TYPE_CHECKING:
    from baco_gpu.data.vocabulary import Vocabulary

DUPLICATES = ("sum", "drop", "refuse")


def compress(
    users: np.ndarray,
    items: np.ndarray,
    weights: np.ndarray | None,
    num_users: int,
    num_items: int,
    duplicates: str,
) -> tuple[Adjacency, Adjacency]:
    """Return the rows of the users and the rows of the items.

    Parameters
    ----------
    users, items : integer arrays of shape (n,), checked: 0 <= users < num_users, 0 <= items < num_items
    weights : float64 array of shape (n,), checked, or None
    duplicates : "sum", "drop" or "refuse", as in `BipartiteGraph.from_edges`

    Raises
    ------
    InputError
        If a pair is repeated and `duplicates` is "refuse".
    """
    csr = rows_of_users(users, items, weights, num_users, num_items, duplicates)
    return csr, transpose(csr, num_items)


def rows_of_users(
    users: np.ndarray,
    items: np.ndarray,
    weights: np.ndarray | None,
    num_users: int,
    num_items: int,
    duplicates: str,
) -> Adjacency:
    """Return the rows of the users alone; see `compress`."""
    if weights is not None and len(weights) and not weights.all():
        present = weights > 0
        users, items, weights = users[present], items[present], weights[present]
    dtype = id_dtype(num_users, num_items)
    users = np.ascontiguousarray(users, dtype=dtype)
    items = np.ascontiguousarray(items, dtype=dtype)
    return _merge_duplicates(_sorted_rows(users, items, weights, num_users, num_items), duplicates)


def side_size(side: str, ids: np.ndarray, declared: int | None, vocabulary: Vocabulary | None) -> int:
    """The number of nodes of a side; InputError if an id, the declared size and the vocabulary do not agree."""
    name = f"num_{side}"
    largest = int(ids.max()) if len(ids) else -1
    if vocabulary is not None:
        from baco_gpu.data.vocabulary import Vocabulary

        check_instance(f"{side[:-1]}_vocabulary", vocabulary, Vocabulary)
        if declared is not None and declared != len(vocabulary):
            raise InputError(f"{name} must equal the {len(vocabulary)} ids of the vocabulary, got {declared}")
        declared = len(vocabulary)
    size = largest + 1 if declared is None else check_integer(name, declared, minimum=0)
    try:
        np.empty(size + 1, dtype=np.int64)  # what the offsets will take; reserves nothing
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"{side} must be contiguous ids (number sparse raw ids with a Vocabulary), got {size - 1} as the largest "
            "id, and no memory holds that many rows"
        ) from error
    if largest >= size:
        raise InputError(f"{side} must be below {name} = {size}, got {largest} at position {int(ids.argmax())}")
    return size


def id_dtype(num_users: int, num_items: int) -> type[np.signedinteger]:
    """The dtype of neighbor ids: int32 while users and items, numbered together, fit into it."""
    return np.int32 if num_users + num_items < 2**31 else np.int64


def transpose(adjacency: Adjacency, num_columns: int) -> Adjacency:
    """The compressed rows of the other direction, ascending within each row."""
    from baco_gpu.graph import grouping

    offsets = grouping.row_offsets(adjacency.neighbors, num_columns)
    weights = adjacency.weights
    return Adjacency(
        offsets=offsets,
        neighbors=grouping.transpose(adjacency.offsets, adjacency.neighbors, offsets),
        weights=None if weights is None else grouping.group_by_row(adjacency.neighbors, weights, offsets),
    )


def _sorted_rows(
    users: np.ndarray, items: np.ndarray, weights: np.ndarray | None, num_users: int, num_items: int
) -> Adjacency:
    """Rows of the users, ascending; repeated pairs stand side by side in their original order."""
    from baco_gpu.graph import grouping

    if grouping.is_sorted(users, items):
        # Copies, because the graph freezes its arrays and these may be the caller's.
        return Adjacency(
            offsets=grouping.row_offsets(users, num_users),
            neighbors=items.copy(),
            weights=None if weights is None else weights.copy(),
        )
    # Two stable counting sorts: by item first, then by user.
    offsets = grouping.row_offsets(items, num_items)
    by_item = Adjacency(
        offsets=offsets,
        neighbors=grouping.group_by_row(items, users, offsets),
        weights=None if weights is None else grouping.group_by_row(items, weights, offsets),
    )
    return transpose(by_item, num_users)


def _merge_duplicates(csr: Adjacency, duplicates: str) -> Adjacency:
    from baco_gpu.graph import grouping

    repeat = grouping.first_repeat(csr.offsets, csr.neighbors)
    if repeat < 0:
        return csr
    if duplicates == "refuse":
        user = int(np.searchsorted(csr.offsets, repeat, side="right")) - 1
        raise InputError(
            f"edges must be distinct, got user {user} with item {csr.neighbors[repeat]} more than once "
            "(duplicates='sum' adds their weights, 'drop' keeps the first)"
        )
    first = np.empty(len(csr.neighbors), dtype=bool)
    first[0] = True
    np.not_equal(csr.neighbors[1:], csr.neighbors[:-1], out=first[1:])
    first[csr.offsets[:-1][csr.degrees > 0]] = True
    starts = np.flatnonzero(first)
    offsets = np.searchsorted(starts, csr.offsets).astype(np.int64, copy=False)
    if duplicates == "drop":
        weights = None if csr.weights is None else csr.weights[starts]
    elif csr.weights is None:
        weights = np.diff(starts, append=len(first)).astype(np.float64)
    else:
        with np.errstate(over="ignore"):  # the next check says it better
            weights = np.add.reduceat(csr.weights, starts)
        if not np.isfinite(weights).all():
            raise InputError("weights of repeated edges must have a finite sum, got inf")
    return Adjacency(offsets, csr.neighbors[starts], weights)
