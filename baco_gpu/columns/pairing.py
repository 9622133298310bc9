"""Which columns go together: what the clusters of one tell about those of another, on events that made neither.

Sparse pairs hardly ever repeat, so that counting them says nothing: of two columns with a million pairs, all
different, each would tell all of the other. Clusters repeat. Half of the events are clustered, both columns at once,
and the mutual information of the labels is read off the other half, with the bias taken off that few events have
(Miller, "Note on the bias of information estimates", 1955).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from baco_gpu.columns.event_log import OWN_EVENTS, Column
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph

# Pairs are looked at of the most frequent ids, where so many of them say most.
_PAIRS = 1 << 17
_READ = 1 << 22  # of more entries, every second, third, ... is read
_CLUSTERS = 32
# Under 0.01 bits clusters would follow what hardly matters; more than four columns make the graph larger and its
# clusters hardly better.
LEAST_BITS, _OF_BEST, MOST_PARTNERS = 0.01, 0.25, 4
_DEVIATIONS = 4  # standard deviations of what chance tells


class Partner(NamedTuple):
    """A column that tells something about another, and how much: bits an event."""

    column: Column
    bits: float


Known = dict[frozenset[str], float]


def partners_of(column: Column, others: Sequence[Column], seed: int, known: Known) -> list[Partner]:
    """The columns, and the column's own sequences, that tell most about it, from the best on; none where none does.

    `known` keeps what was found of a pair, for the other one of it.
    """
    found = []
    for other in others:
        both = frozenset((column.name, other.name))
        if both not in known:
            known[both] = bits_told(column, other, seed)
        found.append(Partner(other, known[both]))
    if column.events is not None:
        found.append(Partner(column.own_events, bits_told(column, column.own_events, seed)))
    found.sort(key=lambda partner: -partner.bits)
    least = max(LEAST_BITS, found[0].bits * _OF_BEST) if found else LEAST_BITS
    return [partner for partner in found if partner.bits >= least][:MOST_PARTNERS]


def graph_of(column: Column, partners: Sequence[Partner]) -> BipartiteGraph:
    """The ids of a column and, one column after another, those that they are seen with; weights are how often."""
    first, left, right = 0, [], []
    for other, _ in partners:
        own, theirs = _entries(column, other)
        left.append(own)
        right.append(theirs + first)
        first += other.size
    return BipartiteGraph.from_edges(
        np.concatenate(left), np.concatenate(right), num_users=column.size, num_items=first, duplicates="sum"
    )


def bits_told(column: Column, other: Column, seed: int) -> float:
    """The mutual information, in bits, of the clusters of two columns; zero where it may be chance."""
    own, theirs = _entries(column, other)
    step = -(-len(own) // _READ)
    own, theirs = own[::step], theirs[::step]
    if len(own) > _PAIRS:
        rank = np.maximum(column.ranks[own], other.ranks[theirs])
        frequent = rank <= np.partition(rank, _PAIRS)[_PAIRS]
        own, theirs = own[frequent], theirs[frequent]
        step = -(-len(own) // _PAIRS)
        own, theirs = own[::step], theirs[::step]
    if len(own) < 4:
        return 0.0
    (distinct, own), (among, theirs) = (np.unique(part, return_inverse=True) for part in (own, theirs))
    sizes = len(distinct), len(among)
    half = np.random.default_rng(seed).permutation(len(own)) % 2 == 0
    graph = BipartiteGraph.from_edges(own[half], theirs[half], num_users=sizes[0], num_items=sizes[1], duplicates="sum")
    budget = {side: min(_CLUSTERS, size) for side, size in zip(("users", "items"), sizes, strict=True)}
    result = BalancedCoclustering(budget=budget, secondary="none", random_state=seed).fit(graph).result_
    seen = ~half & (graph.user_degrees > 0)[own] & (graph.item_degrees > 0)[theirs]
    return _information(result.users.labels[own[seen]], result.items.labels[theirs[seen]])


def _information(left: np.ndarray, right: np.ndarray) -> float:
    """The mutual information of labels in bits, less its bias; zero where chance could have made it."""
    if not len(left):
        return 0.0
    table = np.zeros((int(left.max()) + 1, int(right.max()) + 1))
    np.add.at(table, (left, right), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    share = table / len(left)
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0)
    filled = share > 0
    nats = float((share[filled] * np.log(share[filled] / expected[filled])).sum())
    # Of independent labels, 2 * count * nats is about chi-squared distributed.
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    told = nats - freedom / (2 * len(left))
    by_chance = _DEVIATIONS * math.sqrt(2 * freedom) / (2 * len(left))
    return told / math.log(2) if told > by_chance else 0.0


def _entries(column: Column, other: Column) -> tuple[np.ndarray, np.ndarray]:
    """The ids of both, pair by pair.

    Of two columns with several ids an event, those in the same places where there are as many, or else each with each.
    """
    if other.name == OWN_EVENTS:
        return column.ids, other.ids
    if column.events is None:
        return (column.ids if other.events is None else column.ids[other.events]), other.ids
    if other.events is None:
        return column.ids, other.ids[column.events]
    if np.array_equal(column.events, other.events):
        return column.ids, other.ids
    sizes = np.bincount(other.events, minlength=other.num_events)
    order, starts = np.argsort(other.events, kind="stable"), np.cumsum(sizes) - sizes
    times = sizes[column.events]
    own = np.repeat(column.ids, times)
    within = np.arange(len(own)) - np.repeat(np.cumsum(times) - times, times)
    return own, other.ids[order[np.repeat(starts[column.events], times) + within]]
