"""Merging clusters until the codebook has just the rows that the budget allows, of both sides or of one.

Q is a sum over clusters, so merges of disjoint pairs add up exactly. Every cluster names the neighbor whose merge
gains most; pairs that name each other merge. Clusters that name one of such a pair follow it in the same round, as long
as their merges are sure to raise Q: without them, a hub would take in one of its many small neighbors a round. Merges
that lower Q are made only when none is left that raises it.
"""

from __future__ import annotations

from typing import Any

from baco_gpu.clustering.backends.backend import (
    USERS,
    Array,
    Backend,
    ClusterGraph,
    Partition,
    Partners,
    Problem,
    read,
)
from baco_gpu.clustering.solve.targets import Excess, Target, excesses


def merge_to(
    backend: Backend,
    problem: Problem,
    partition: Partition,
    penalty: float,
    target: Target,
    *,
    shared: bool = False,
) -> Partition:
    """Merge clusters until at most `target` codebook rows are left, or, without a target, as long as Q rises.

    The result has `target` rows, or one row less where only merges that save two rows are left, or the rows that
    `partition` had if those were fewer; its labels are 0..K-1. A cluster has a row for each side of which it has
    members or, where rows are `shared` by the sides, just one. With a target a side, merging ends as soon as one of
    them is met, to the row, and the other side has its own or more.
    """
    merged = compact(backend, partition)
    clusters = backend.contract(problem, merged, shared=shared)
    group = backend.xp.arange(clusters.num_clusters, dtype=merged.labels[USERS].dtype)
    while True:
        excess = excesses(clusters.codebook_rows, target)
        if any(each.rows <= 0 for each in excess):
            break
        keepers = _keepers(backend, clusters, backend.best_partners(clusters, penalty), penalty, excess)
        if keepers is None:
            break
        relabel = _relabelling(backend.xp, keepers, group.dtype)
        clusters = backend.contract_again(clusters, relabel)
        group = relabel[group]
    users, items = merged.labels
    labels = (group[users], group[items])
    return Partition(labels, clusters.volumes, backend.weight_within(problem, labels))


def compact(backend: Backend, partition: Partition) -> Partition:
    """The same partition under the labels 0..K-1, in the same order, each of them in use."""
    xp = backend.xp
    used = xp.zeros(partition.num_labels, dtype=bool)
    for labels in partition.labels:
        used[labels] = True
    (num_used,) = read(backend, xp.count_nonzero(used))
    position = (xp.cumsum(used) - 1).astype(partition.labels[USERS].dtype)
    users, items = (position[labels] for labels in partition.labels)
    kept = backend.places(used, num_used)
    user_volumes, item_volumes = (volumes[kept] for volumes in partition.volumes)
    return Partition((users, items), (user_volumes, item_volumes), partition.within)


def _keepers(
    backend: Backend, clusters: ClusterGraph, partners: Partners, penalty: float, excess: list[Excess]
) -> Array | None:
    """For every cluster the one that it becomes part of now, itself where it stays; None where nothing is to merge.

    The merges save at most the rows in excess, unless the only pairs left save two where one is asked for.
    """
    xp = backend.xp
    partner, gain = partners
    ids = xp.arange(len(partner))
    # Where there is any edge there is a mutual pair: of the edges of the greatest gain, one at the smallest id, by the
    # rule for ties. A partner of -1 looks up the last cluster, which never names -1 back as an id.
    mutual = partner[partner] == ids
    rises = gain > 0
    paired = mutual & rises
    follows = rises & ~mutual & paired[partner]
    first = mutual & (partner > ids)
    rising = first & rises
    saving = [occupied & occupied[partner] & rising for occupied in clusters.occupied]
    masks = (rising, follows, first, partner < 0, *saving)
    num_rising, num_following, num_pairs, num_alone, *saved = read(backend, *map(xp.count_nonzero, masks))
    spare = [each.rows - sum(saved[side] for side in each.sides) for each in excess]

    if num_rising and all(rows >= 0 for rows in spare):
        keepers = xp.where(paired, xp.minimum(ids, partner), ids)
        if num_following:
            # A follower may save a row of each side. Near the budget pairs go alone, and stop at the very row.
            rooms = (rows // len(each.sides) for rows, each in zip(spare, excess, strict=True))
            room = min(rooms, default=num_following)
            follower = backend.places(follows, num_following)
            follower, leader = _followers(xp, clusters, partners, penalty, follower, room)
            keepers[follower] = leader
        return keepers
    if not excess or not (num_pairs or num_alone > 1):
        return None
    if num_rising:
        one, other = _by_gain(xp, *_pairs(partners, backend.places(rising, num_rising)))
    else:
        kinds = [_pairs(partners, backend.places(first, num_pairs))]
        if num_alone > 1:
            kinds.append(_pairs_of_components(xp, clusters, backend.places(partner < 0, num_alone), penalty))
        one, other = _by_gain(xp, *map(xp.concatenate, zip(*kinds, strict=True)))
        # The better half: the others may find better partners in a later round.
        half = (len(one) + 1) // 2
        one, other = one[:half], other[:half]
    return _joined(xp, clusters, one, other, excess)


def _pairs(partners: Partners, first: Array) -> tuple[Array, Array, Array]:
    """Clusters, their partners, and what merging the two gains."""
    return first, partners.cluster[first], partners.gain[first]


def _pairs_of_components(xp: Any, clusters: ClusterGraph, alone: Array, penalty: float) -> tuple[Array, Array, Array]:
    """Clusters without any neighbor (whole components of the graph), paired in ascending order of their volumes."""
    users, items = clusters.volumes
    alone = alone[xp.argsort(users[alone] + items[alone], kind="stable")]
    alone = alone[: len(alone) // 2 * 2].reshape(-1, 2)
    first, second = alone.min(axis=1), alone.max(axis=1)
    user_volumes, item_volumes = users.astype(float), items.astype(float)
    crossing = user_volumes[first] * item_volumes[second] + item_volumes[first] * user_volumes[second]
    return first, second, -penalty * crossing


def _by_gain(xp: Any, first: Array, second: Array, gain: Array) -> tuple[Array, Array]:
    """Pairs of clusters in descending order of what their merges gain."""
    order = _descending(xp, gain, first)
    return first[order], second[order]


def _descending(xp: Any, gain: Array, ids: Array) -> Array:
    """The order of descending gain; of equal gains that of ascending ids."""
    return xp.lexsort(xp.stack([ids.astype(float), -gain]))


def _joined(xp: Any, clusters: ClusterGraph, first: Array, second: Array, excess: list[Excess]) -> Array:
    """The keepers when pairs merge in their order as long as they save no more than the excess; one pair at least."""
    keepers = xp.arange(clusters.num_clusters)
    # A pair saves a row for each side that both clusters have.
    if all(len(each.sides) * len(first) <= each.rows for each in excess):
        keepers[second] = first
        return keepers
    both = [(occupied[first] & occupied[second]).astype(int) for occupied in clusters.occupied]
    saved = [sum(both[side] for side in each.sides) for each in excess]
    merge = xp.ones(len(first), dtype=bool)
    for rows, each in zip(saved, excess, strict=True):
        merge &= xp.cumsum(rows) <= each.rows
    # The next pair saves two rows where one may be left: a later pair may save just one.
    single = ~merge & (sum(saved) == 1)
    for rows, each in zip(saved, excess, strict=True):
        single &= (rows * merge).sum() + rows <= each.rows
    merge |= single & (xp.cumsum(single) == 1)
    merge[:1] |= ~merge.any()
    keepers[second] = xp.where(merge, first, second)
    return keepers


def _followers(
    xp: Any, clusters: ClusterGraph, partners: Partners, penalty: float, follower: Array, room: int
) -> tuple[Array, Array]:
    """Clusters whose best partner is one of a merging pair, and whom they become part of now: the pair's first cluster,
    or themselves where they wait for the next round.

    The followers of a pair join it in descending order of gain. What one gains by joining all that went before it is
    at least its gain with its partner less the price of the volumes of the rest, since the edges to the rest are not
    counted; the first one for whom that is not positive waits, and so do all after it. Of those that do not, the `room`
    of greatest gain join.
    """
    # In descending order of gain; of equal gains in that of ids, in which the followers came.
    follower = follower[xp.argsort(-partners.gain[follower], kind="stable")]
    gain, half = partners.gain[follower], partners.cluster[follower]
    leader = xp.minimum(half, partners.cluster[half])
    # By leader, otherwise in the same order.
    order = xp.argsort(leader, kind="stable")
    starts = xp.searchsorted(leader[order], leader[order])
    here, rest = follower[order], partners.cluster[half[order]]
    users, items = (volumes[here] for volumes in clusters.volumes)
    rest_users, rest_items = (
        (volumes[rest] + _sums_before(xp, own, starts)).astype(float)
        for volumes, own in zip(clusters.volumes, (users, items), strict=True)
    )
    price = penalty * (users.astype(float) * rest_items + items.astype(float) * rest_users)
    waits = gain[order] - price <= 0
    joins = xp.empty_like(waits)
    joins[order] = ~waits & (_sums_before(xp, waits.astype(int), starts) == 0)
    joins &= xp.cumsum(joins) <= room
    return follower, xp.where(joins, leader, follower)


def _sums_before(xp: Any, values: Array, starts: Array) -> Array:
    """For every place the sum of the integers before it, from the start of its segment on."""
    before = xp.cumsum(values) - values
    return before - before[starts]


def _relabelling(xp: Any, keepers: Array, dtype: Any) -> Array:
    """New ids 0..K-1 for the clusters that stay, in order; every other cluster takes its keeper's."""
    stays = keepers == xp.arange(len(keepers))
    return (xp.cumsum(stays) - 1).astype(dtype)[keepers]
