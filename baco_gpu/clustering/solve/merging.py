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
    Clusters,
    Excess,
    Partition,
    Problem,
    Proposals,
    read,
)
from baco_gpu.clustering.solve.targets import Target, excesses


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
    return merged(backend, backend.clusters(problem, penalty, shared=shared), partition, penalty, target)


def merged(backend: Backend, clusters: Clusters, partition: Partition, penalty: float, target: Target) -> Partition:
    """`merge_to`, with clusters that may have merged before, in an earlier level."""
    clusters.begin(compact(backend, partition))
    while True:
        excess = excesses(clusters.codebook_rows, target)
        if any(each.rows <= 0 for each in excess):
            break
        if clusters.merge_rising(excess):
            continue
        keepers = _last_merges(backend, clusters.proposals(), penalty, excess) if excess else None
        if keepers is None:
            break
        clusters.merge(keepers)
    return clusters.partition()


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


def _last_merges(backend: Backend, proposals: Proposals, penalty: float, excess: list[Excess]) -> Array | None:
    """The keeper of every cluster where pairs that raise Q save too many rows, or where none raises it any more.

    The merges save at most the rows in excess, unless the only pairs left save two where one is asked for. None where
    nothing is to merge.
    """
    xp, (partner, gain) = backend.xp, proposals[:2]
    # Where there is any edge there is a mutual pair: of the edges of the greatest gain, one at the smallest id, by the
    # rule for ties. A partner of -1 looks up the last cluster, which never names -1 back as an id.
    ids = xp.arange(len(partner))
    first = (partner[partner] == ids) & (partner > ids)
    rising = first & (gain > 0)
    num_rising, num_pairs, num_alone = read(backend, *map(xp.count_nonzero, (rising, first, partner < 0)))
    if num_rising:
        one, other = _by_gain(xp, *_pairs(proposals, backend.places(rising, num_rising)))
    elif num_pairs or num_alone > 1:
        kinds = [_pairs(proposals, backend.places(first, num_pairs))]
        if num_alone > 1:
            kinds.append(_pairs_of_components(xp, proposals, backend.places(partner < 0, num_alone), penalty))
        one, other = _by_gain(xp, *map(xp.concatenate, zip(*kinds, strict=True)))
        # The better half: the others may find better partners in a later round.
        half = (len(one) + 1) // 2
        one, other = one[:half], other[:half]
    else:
        return None
    return _joined(xp, proposals, one, other, excess)


def _pairs(proposals: Proposals, first: Array) -> tuple[Array, Array, Array]:
    """Clusters, their partners, and what merging the two gains."""
    return first, proposals.partner[first], proposals.gain[first]


def _pairs_of_components(xp: Any, proposals: Proposals, alone: Array, penalty: float) -> tuple[Array, Array, Array]:
    """Clusters without any neighbor (whole components of the graph), paired in ascending order of their volumes."""
    users, items = proposals.volumes
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


def _joined(xp: Any, proposals: Proposals, first: Array, second: Array, excess: list[Excess]) -> Array:
    """The keepers when pairs merge in their order as long as they save no more than the excess; one pair at least."""
    keepers = xp.arange(len(proposals.partner))
    # A pair saves a row for each side that both clusters have.
    if all(len(each.sides) * len(first) <= each.rows for each in excess):
        keepers[second] = first
        return keepers
    both = [(occupied[first] & occupied[second]).astype(int) for occupied in proposals.occupied]
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
