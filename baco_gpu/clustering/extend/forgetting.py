"""Ids that were not seen for long: which they are, and who gets the codebook rows that nobody has without them.

An id is seen in an update where it has an interaction. `forget=3` forgets the ids that were in none of the last three
updates; `forget="2026-01-01"` those whose last interaction is before that day, or that have none. What an id had goes
with it, its interactions too.

A row whose last id is forgotten goes to a node that the row it has fits least: one that has an edge to the co-cluster
of the row and gains most by it, or else the one of the lowest score. So there are as many rows as before, as long as
there are as many ids.
"""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import numpy as np

from baco_gpu.checks import check_integer
from baco_gpu.clustering.backends.backend import ITEMS, USERS, NodeWeights
from baco_gpu.clustering.extend.growth import GrownGraph
from baco_gpu.clustering.result import ResultData
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

Day = str | datetime.date | np.datetime64
_SIDES = ("users", "items")
_LAST_SECOND = 1e11  # of a calendar: larger numbers count something smaller


def check_forget(result: ResultData, interactions: Any, forget: int | Day | None) -> int | float | None:
    """The number of updates, or the second before which an id was last seen; InputError names what is wrong."""
    if forget is None:
        return None
    for name, side in zip(_SIDES, (result.users, result.items), strict=True):
        if side.vocabulary is None:
            raise InputError(f"forget must be of a result with raw ids, got {name} by index, which would move")
    if not isinstance(forget, str | datetime.date | np.datetime64):
        return check_integer("forget in updates", forget, minimum=1)
    second = _second_of(forget)
    times = interactions.timestamps if isinstance(interactions, Interactions) else None
    if times is None:
        raise InputError(
            "interactions must be Interactions with timestamps (load_interactions with timestamp_column) to forget by "
            f"a date, got {type(interactions).__name__}{' without' if isinstance(interactions, Interactions) else ''}"
        )
    if len(times) and times.max() > _LAST_SECOND:
        raise InputError(f"timestamps must be seconds since 1970 to be compared with a date, got {times.max()}")
    return second


def unseen_updates(result: ResultData, grown: GrownGraph) -> tuple[np.ndarray, np.ndarray]:
    """For every node the updates since it was last seen, this one counted: int32 of shape (nodes,), 0 where it is."""
    out = []
    for side, nodes, before in zip(grown.sides, (grown.users, grown.items), (result.users, result.items), strict=True):
        unseen = np.zeros(len(side), np.int32)
        unseen[~side.is_new] = 0 if before.unseen is None else before.unseen
        unseen += 1
        unseen[nodes] = 0
        out.append(unseen)
    return out[USERS], out[ITEMS]


def forgotten(
    grown: GrownGraph, unseen: tuple[np.ndarray, np.ndarray], interactions: Any, forget: int | float
) -> tuple[np.ndarray, np.ndarray]:
    """Which nodes of both sides are to be forgotten: bool arrays."""
    if isinstance(forget, int):
        return unseen[USERS] >= forget, unseen[ITEMS] >= forget
    out = []
    for side, nodes in zip(grown.sides, (interactions.users, interactions.items), strict=True):
        last = np.full(len(side), -np.inf)
        np.maximum.at(last, side.places[nodes], interactions.timestamps)
        out.append(last < forget)
    return out[USERS], out[ITEMS]


def fill_rows(
    graph: BipartiteGraph,
    weights: NodeWeights,
    labels: tuple[np.ndarray, np.ndarray],
    side: int,
    rows: np.ndarray,
    penalty: float,
) -> np.ndarray:
    """The labels of a side, so that each of `rows` is one of them; see above.

    Parameters
    ----------
    graph : BipartiteGraph on the CPU
    labels : pair of integer arrays, of users and of items
    rows : integer array, the labels that the side has rows for
    penalty : float, in units of the integer weights
    """
    own, other = labels[side].copy(), labels[1 - side]
    members = np.bincount(own, minlength=int(max(rows.max(initial=-1), own.max(initial=-1))) + 1)
    free = rows[members[rows] == 0]
    if not len(free):
        return own
    adjacency = graph.csr if side == USERS else graph.csc
    ends = np.repeat(np.arange(len(own)), np.diff(adjacency.offsets))
    theirs = other[adjacency.neighbors]
    edges = np.ones(len(ends)) if weights.edges[side] is None else weights.edges[side].astype(np.float64)
    nodes = weights.nodes[side].astype(np.float64)
    volumes = np.bincount(other, weights=weights.nodes[1 - side], minlength=len(members))
    inside = theirs == own[ends]
    scores = np.bincount(ends[inside], edges[inside], len(own)) - penalty * (nodes * volumes[own])
    wanted = np.isin(theirs, free)
    pairs, at = np.unique(np.stack((theirs[wanted], ends[wanted])), axis=1, return_inverse=True)
    links = np.bincount(at.reshape(-1), edges[wanted], pairs.shape[1])
    gains = links - penalty * (nodes[pairs[1]] * volumes[pairs[0]]) - scores[pairs[1]]
    starts = np.searchsorted(pairs[0], [free, free + 1])
    lowest = iter(np.argsort(scores, kind="stable").tolist())
    taken = np.zeros(len(own), dtype=bool)
    for label, first, last in zip(free.tolist(), *starts.tolist(), strict=True):
        best = first + np.argsort(-gains[first:last], kind="stable")
        for node in itertools.chain(pairs[1][best].tolist(), lowest):
            if not taken[node] and members[own[node]] > 1:
                members[own[node]] -= 1
                own[node], taken[node] = label, True
                break
    return own


def _second_of(day: Day) -> float:
    try:
        moment: Any = datetime.datetime.fromisoformat(day) if isinstance(day, str) else day
        if isinstance(moment, datetime.datetime) and moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        at = np.datetime64(moment, "us")
    except ValueError as error:
        raise InputError(f"forget must be a number of updates, or a date such as 2026-01-01, got {day!r}") from error
    if np.isnat(at):
        raise InputError(f"forget must be a number of updates, or a date such as 2026-01-01, got {day!r}")
    return float(at.astype(np.int64)) / 1e6
