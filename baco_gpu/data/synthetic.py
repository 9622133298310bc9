"""Made-up interactions whose co-clusters are known: for tests, demonstrations and measurements at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from baco_gpu.checks import check_integer, check_number, check_sequence
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import check_seed
from baco_gpu.errors import InputError

_CHUNK = 1 << 22  # pairs drawn at once: bounds the temporaries
_SKEWED_ROUNDS = 12
_MOST_ROUNDS = 400
_LEAST_DRAW = 1 << 16

_TRAITS = 4  # dimensions of what ids of two columns make of one another
_LOGIT_STD, _LOGIT_SHIFT = 1.5, 1.3


def planted_coclusters(
    num_users: int,
    num_items: int,
    num_edges: int,
    num_clusters: int,
    *,
    noise: float = 0.1,
    exponent: float = 2.5,
    seed: int = 0,
) -> tuple[Interactions, np.ndarray, np.ndarray]:
    """Draw interactions that mostly stay within planted co-clusters, with power-law degrees on both sides.

    Users and items are dealt at random to clusters of equal size (up to one). An interaction picks a user, then an item
    of the user's cluster or, with probability `noise`, of a cluster picked at random. Which user, and which item within
    a cluster, follows a power law: the one of rank r is picked in proportion to (r + 1) ** (-1 / (exponent - 1)), so
    that the degrees have the density exponent `exponent`. Repeated pairs are drawn again, which flattens the law where
    a cluster is nearly full; if they keep repeating, the last pairs are picked without the power law.

    Parameters
    ----------
    num_users, num_items : int
    num_edges : int
        The number of distinct pairs, met exactly.
    num_clusters : int
        From 1 to the size of the smaller side.
    noise : float
        From 0 (every pair within a cluster) to 1 (clusters mean nothing).
    exponent : float
        Above 2, which keeps the mean degree finite; the smaller, the more skewed.
    seed : int
        The same seed, sizes and NumPy give the same pairs.

    Returns
    -------
    interactions : Interactions
        Distinct pairs without weights, sorted by user and item.
    user_clusters, item_clusters : int32 arrays of shape (num_users,) and (num_items,)
        The planted cluster of every user and item.

    Raises
    ------
    InputError
        If an argument is out of range, or so many distinct pairs do not exist or cannot be drawn.
    """
    num_users = check_integer("num_users", num_users, minimum=1, maximum=2**31 - 1)
    num_items = check_integer("num_items", num_items, minimum=1, maximum=2**31 - 1)
    num_edges = check_integer("num_edges", num_edges, minimum=0)
    num_clusters = check_integer("num_clusters", num_clusters, minimum=1, maximum=min(num_users, num_items))
    noise = check_number("noise", noise, minimum=0, maximum=1)
    exponent = check_number("exponent", exponent, above=2)
    generator = np.random.default_rng(check_seed(seed))
    users, items = _Side.deal(num_users, num_clusters, generator), _Side.deal(num_items, num_clusters, generator)
    possible = num_users * num_items if noise > 0 else int((users.sizes * items.sizes).sum())
    if num_edges > possible:
        raise InputError(f"num_edges must be at most {possible}, the number of possible pairs, got {num_edges}")
    pairs = _distinct_pairs(users, items, num_edges, noise, exponent, generator)
    interactions = Interactions(
        users=_quotient(pairs, num_items),
        items=_remainder(pairs, num_items),
        num_users=num_users,
        num_items=num_items,
    )
    return interactions, users.clusters, items.clusters


@dataclass(frozen=True)
class _Side:
    """The nodes of one side, dealt to clusters.

    `clusters` (size,) is the cluster of every node, `members` (size,) the nodes cluster by cluster, most popular first;
    cluster c owns `members[starts[c] : starts[c] + sizes[c]]`.
    """

    clusters: np.ndarray
    members: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def deal(cls, size: int, num_clusters: int, generator: np.random.Generator) -> _Side:
        members = generator.permutation(size).astype(np.int32)
        sizes = np.full(num_clusters, size // num_clusters, dtype=np.int64)
        sizes[: size % num_clusters] += 1
        clusters = np.empty(size, dtype=np.int32)
        clusters[members] = np.repeat(np.arange(num_clusters, dtype=np.int32), sizes)
        return cls(clusters, members, np.cumsum(sizes) - sizes, sizes)


def _distinct_pairs(
    users: _Side, items: _Side, count: int, noise: float, exponent: float, generator: np.random.Generator
) -> np.ndarray:
    """`count` distinct pairs as sorted int64 keys user * num_items + item."""
    kept = np.empty(0, dtype=np.int64)
    fresh = 0.9  # the share of a round's draws that were new pairs: how many to draw in the next
    # A stable random order of users, by popularity, that does not depend on the clusters.
    by_popularity = generator.permutation(len(users.clusters)).astype(np.int32)
    for turn in range(_MOST_ROUNDS):
        missing = count - len(kept)
        if missing <= 0:
            break
        draws = min(int(missing / max(fresh, 0.2) * 1.02), 2 * count) + _LEAST_DRAW
        skew = 1 / (exponent - 1) if turn < _SKEWED_ROUNDS else 0.0
        drawn = _draw(users, items, by_popularity, draws, noise, skew, generator)
        before = len(kept)
        kept = _union(kept, drawn)
        fresh = (len(kept) - before) / draws
    if len(kept) < count:
        raise InputError(
            f"num_edges must leave more pairs free: {len(kept)} distinct pairs came out of {_MOST_ROUNDS} rounds, "
            f"got {count}"
        )
    if len(kept) > count:  # without regard to the pairs, so that the law stays
        keep = np.ones(len(kept), dtype=bool)
        keep[generator.choice(len(kept), len(kept) - count, replace=False)] = False
        kept = kept[keep]
    return kept


def _draw(
    users: _Side,
    items: _Side,
    by_popularity: np.ndarray,
    count: int,
    noise: float,
    skew: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """`count` pairs, possibly repeated, as int64 keys in no particular order."""
    keys = np.empty(count, dtype=np.int64)
    for start in range(0, count, _CHUNK):
        length = min(_CHUNK, count - start)
        user = by_popularity[_ranks(generator.random(length), len(by_popularity), skew)]
        cluster = users.clusters[user]
        if noise > 0:
            stray = np.flatnonzero(generator.random(length) < noise)
            cluster[stray] = generator.integers(0, len(items.sizes), len(stray), dtype=np.int32)
        rank = _ranks(generator.random(length), items.sizes[cluster], skew)
        item = items.members[items.starts[cluster] + rank]
        np.multiply(user, np.int64(len(items.clusters)), out=keys[start : start + length], dtype=np.int64)
        keys[start : start + length] += item
    return keys


def _ranks(uniform: np.ndarray, size: int | np.ndarray, skew: float) -> np.ndarray:
    """Turn uniform numbers into ranks 0 .. size - 1, rank r about in proportion to (r + 1) ** -skew.

    Inverts the integral of x ** -skew from 1 to size + 1: no table and no search, whatever the size.
    """
    power = 1 - skew
    top = np.power(np.add(size, 1.0), power)
    uniform *= top - 1
    uniform += 1
    np.power(uniform, 1 / power, out=uniform)
    ranks = uniform.astype(np.int64)
    ranks -= 1
    return np.minimum(ranks, size - 1, out=ranks)  # rounding may reach the upper end


def _union(kept: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Sorted distinct keys of both; `kept` is sorted and distinct already, `drawn` is used up."""
    drawn.sort()
    if len(kept):
        drawn = np.concatenate([kept, drawn])
        drawn.sort(kind="stable")  # merges the two runs in linear time
    first = np.empty(len(drawn), dtype=bool)
    first[:1] = True
    np.not_equal(drawn[1:], drawn[:-1], out=first[1:])
    return drawn[first]


def _quotient(keys: np.ndarray, divisor: int) -> np.ndarray:
    result = np.empty(len(keys), dtype=np.int32)
    for start in range(0, len(keys), _CHUNK):
        result[start : start + _CHUNK] = keys[start : start + _CHUNK] // divisor
    return result


def _remainder(keys: np.ndarray, divisor: int) -> np.ndarray:
    result = np.empty(len(keys), dtype=np.int32)
    for start in range(0, len(keys), _CHUNK):
        result[start : start + _CHUNK] = keys[start : start + _CHUNK] % divisor
    return result


class ClickLog(NamedTuple):
    """Impressions, and which of them were clicked.

    Attributes
    ----------
    ids : int32 array of shape (events, columns)
    clicked : bool array of shape (events,)
    clusters : list of int32 arrays
        The planted cluster of every id, column by column.
    """

    ids: np.ndarray
    clicked: np.ndarray
    clusters: list[np.ndarray]


def planted_clicks(
    num_events: int,
    sizes: Sequence[int],
    num_clusters: int,
    *,
    tied: int,
    noise: float = 0.2,
    spread: float = 0.3,
    exponent: float = 2.5,
    seed: int = 0,
) -> ClickLog:
    """Draw a log of impressions with several columns of ids, as click models are trained on, of known clusters.

    Ids are dealt to clusters as in `planted_coclusters`. An event has a cluster; each of the first `tied` columns has
    an id of it or, with probability `noise`, any; the others have any. The log-odds of a click are a sum over columns
    of what an id adds by itself, and of the inner products of the first column's vector with those of the other tied
    ones, brought to a standard deviation of 1.5 around a rate of about a quarter. What an id has is that of its cluster
    and, of `spread` of the variance, its own.

    Parameters
    ----------
    num_events : int
    sizes : sequence of int
        Ids of every column.
    num_clusters : int
        At least 1; a column with fewer ids has one for each of them.
    tied : int
        From 0 to the number of columns.
    noise, spread : float
        From 0 to 1.
    exponent : float
        As of `planted_coclusters`.
    seed : int

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    num_events = check_integer("num_events", num_events, minimum=0, maximum=2**40)
    sizes = [
        check_integer(f"sizes[{column}]", size, minimum=1, maximum=2**31 - 1)
        for column, size in enumerate(check_sequence("sizes", sizes))
    ]
    num_clusters = check_integer("num_clusters", num_clusters, minimum=1)
    tied = check_integer("tied", tied, minimum=0, maximum=len(sizes))
    noise = check_number("noise", noise, minimum=0, maximum=1)
    spread = check_number("spread", spread, minimum=0, maximum=1)
    exponent = check_number("exponent", exponent, above=2)
    generator = np.random.default_rng(check_seed(seed))
    skew = 1 / (exponent - 1)
    sides = [_Side.deal(size, min(num_clusters, size), generator) for size in sizes]
    cluster = generator.integers(0, num_clusters, num_events, dtype=np.int32)
    ids = np.empty((num_events, len(sides)), np.int32)
    logits, first = np.zeros(num_events), np.empty(0)
    for column, side in enumerate(sides):
        count = len(side.sizes)
        own = cluster % count
        stray = generator.random(num_events) < (noise if column < tied else 1.0)
        own[stray] = generator.integers(0, count, int(stray.sum()), dtype=np.int32)
        rank = _ranks(generator.random(num_events), side.sizes[own], skew)
        ids[:, column] = side.members[side.starts[own] + rank]
        shared, single = (
            generator.standard_normal((number, 1 + _TRAITS), dtype=np.float32) for number in (count, len(side.clusters))
        )
        traits = np.sqrt(1 - spread) * shared[side.clusters] + np.sqrt(spread) * single
        seen = traits[ids[:, column]]
        logits += seen[:, 0]
        if column == 0:
            first = seen[:, 1:]
        elif column < tied:
            logits += (first * seen[:, 1:]).sum(axis=1) / np.sqrt(_TRAITS)
    logits *= _LOGIT_STD / max(float(logits.std()), 1e-12) if num_events else 1.0
    clicked = generator.random(num_events) < 1 / (1 + np.exp(_LOGIT_SHIFT - logits))
    return ClickLog(ids, clicked, [side.clusters for side in sides])
