"""Merging clusters until the codebook has just the rows that the budget allows.

Q is a sum over clusters, so merges of disjoint pairs add up exactly. Every cluster names the neighbour whose merge
gains most; pairs that name each other merge. Clusters that name one of such a pair follow it in the same round, as long
as their merges are sure to raise Q: without them, a hub would take in one of its many small neighbours a round. Merges
that lower Q are made only when none is left that raises it.
"""

from __future__ import annotations

from typing import Any

from baco_gpu.clustering.backends.base import ITEMS, USERS, Backend, ClusterGraph, Partition, Partners, Problem


def merge_to(
    backend: Backend, problem: Problem, partition: Partition, penalty: float, target_rows: int | None
) -> Partition:
    """Merge clusters until at most `target_rows` codebook rows are left, or, without a target, as long as Q rises.

    The result has `target_rows` rows, or one row less where only merges that save two rows are left, or the rows that
    `partition` had if those were fewer; its labels are 0..K-1.
    """
    merged = compact(backend, partition)
    clusters = backend.contract(problem, merged)
    group = backend.xp.arange(clusters.num_clusters, dtype=merged.labels[USERS].dtype)
    while True:
        excess = None if target_rows is None else rows_of(clusters) - target_rows
        if excess is not None and excess <= 0:
            break
        partners = backend.best_partners(clusters, penalty)
        kept, absorbed = _merges_of_round(backend.xp, clusters, partners, penalty, excess)
        if not len(kept):
            break
        relabel, num_clusters = _relabelling(backend.xp, clusters.num_clusters, kept, absorbed, group.dtype)
        clusters = backend.contract_again(clusters, relabel, num_clusters)
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
    position = (xp.cumsum(used) - 1).astype(partition.labels[USERS].dtype)
    users, items = (position[labels] for labels in partition.labels)
    user_volumes, item_volumes = (volumes[used] for volumes in partition.volumes)
    return Partition((users, items), (user_volumes, item_volumes), partition.within)


def rows_of(clusters: ClusterGraph) -> int:
    """The codebook rows of a graph of clusters."""
    return int(clusters.occupied[USERS].sum()) + int(clusters.occupied[ITEMS].sum())


def _merges_of_round(
    xp: Any, clusters: ClusterGraph, partners: Partners, penalty: float, excess: int | None
) -> tuple[Any, Any]:
    """The merges to make now: clusters that are kept, and those that each of them absorbs.

    They save at most `excess` rows, unless the only pairs left save two rows where one is asked for.
    """
    first, second, gain = _mutual_pairs(xp, partners)
    rising = gain > 0
    if excess is not None and not bool(rising.any()):
        alone = _pairs_of_components(xp, clusters, partners, penalty)
        first, second, gain = _least_losses(xp, (first, second, gain), alone)
        chosen = _within_excess(xp, _rows_saved(clusters, first, second), gain, first, excess)
        return first[chosen], second[chosen]

    first, second, gain = first[rising], second[rising], gain[rising]
    leader, follower, affinity = _followers(xp, clusters, partners, penalty, first, second)
    if excess is not None:
        saved = _rows_saved(clusters, first, second)
        # A follower may save two rows. Near the budget pairs go alone, and stop at the very row.
        room = max(excess - int(saved.sum()), 0) // 2
        if len(follower) > room:
            strongest = xp.lexsort(xp.stack([follower.astype(float), -affinity]))[:room]
            leader, follower = leader[strongest], follower[strongest]
        chosen = _within_excess(xp, saved, gain, first, excess)
        first, second = first[chosen], second[chosen]
    return xp.concatenate([first, leader]), xp.concatenate([second, follower])


def _mutual_pairs(xp: Any, partners: Partners) -> tuple[Any, Any, Any]:
    """Pairs of clusters that are each other's best partner. Where there is any edge there is at least one such pair:
    of the edges of the greatest gain, one at the smallest id, by the rule for ties."""
    ids = xp.arange(len(partners.cluster))
    # A partner of -1 looks up the last cluster, which never names -1 back as an id.
    mutual = (partners.cluster > ids) & (partners.cluster[partners.cluster] == ids)
    first = xp.flatnonzero(mutual)
    return first, partners.cluster[first], partners.gain[first]


def _followers(
    xp: Any, clusters: ClusterGraph, partners: Partners, penalty: float, first: Any, second: Any
) -> tuple[Any, Any, Any]:
    """Clusters whose best partner is one of a merging pair: the pair's first cluster, the follower, and its gain.

    The followers of a pair join it in descending order of gain. What one gains by joining all that went before it is
    at least its gain with its partner less the price of the volumes of the rest, since the edges to the rest are not
    counted; the first one for whom that is not positive, and all after it, wait for the next round.
    """
    pair = xp.full(clusters.num_clusters, -1, dtype=partners.cluster.dtype)
    pair[first] = first
    pair[second] = first
    other_half = xp.zeros(clusters.num_clusters, dtype=partners.cluster.dtype)
    other_half[first] = second
    other_half[second] = first
    # The pair of a partner of -1 is looked up at the last cluster, and not used.
    follower = xp.flatnonzero(
        (pair < 0) & (partners.cluster >= 0) & (partners.gain > 0) & (pair[partners.cluster] >= 0)
    )
    leader = pair[partners.cluster[follower]]
    gain = partners.gain[follower]
    # Both sorts are stable: by leader, then by descending gain, then by id, in which order the followers came.
    order = xp.argsort(-gain, kind="stable")
    order = order[xp.argsort(leader[order], kind="stable")]
    follower, leader, gain = follower[order], leader[order], gain[order]
    if not len(follower):
        return leader, follower, gain

    begins = xp.concatenate([xp.ones(1, dtype=bool), leader[1:] != leader[:-1]])
    segment = xp.cumsum(begins) - 1
    rest = other_half[partners.cluster[follower]]
    users, items = (volumes[follower] for volumes in clusters.volumes)
    rest_users, rest_items = (
        (volumes[rest] + _sums_before(xp, own, begins, segment)).astype(float)
        for volumes, own in zip(clusters.volumes, (users, items), strict=True)
    )
    price = penalty * (users.astype(float) * rest_items + items.astype(float) * rest_users)
    sure = _sums_before(xp, (gain - price <= 0).astype(int), begins, segment, inclusive=True) == 0
    return leader[sure], follower[sure], gain[sure]


def _sums_before(xp: Any, values: Any, begins: Any, segment: Any, *, inclusive: bool = False) -> Any:
    """For every place the sum of the integers before it (and at it) in its segment."""
    running = xp.cumsum(values)
    base = (running - values)[begins]
    return (running if inclusive else running - values) - base[segment]


def _pairs_of_components(xp: Any, clusters: ClusterGraph, partners: Partners, penalty: float) -> tuple[Any, Any, Any]:
    """Clusters without any neighbour (whole components of the graph), paired in ascending order of their volumes."""
    users, items = clusters.volumes
    alone = xp.flatnonzero(partners.cluster < 0)
    alone = alone[xp.argsort(users[alone] + items[alone], kind="stable")]
    alone = alone[: len(alone) // 2 * 2].reshape(-1, 2)
    first, second = alone.min(axis=1), alone.max(axis=1)
    user_volumes, item_volumes = users.astype(float), items.astype(float)
    crossing = user_volumes[first] * item_volumes[second] + item_volumes[first] * user_volumes[second]
    return first, second, -penalty * crossing


def _least_losses(xp: Any, *candidates: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """The better half of pairs whose merges lose: the others may find better partners in a later round."""
    first, second, gain = (xp.concatenate(parts) for parts in zip(*candidates, strict=True))
    order = xp.lexsort(xp.stack([first.astype(float), -gain]))[: (len(first) + 1) // 2]
    return first[order], second[order], gain[order]


def _rows_saved(clusters: ClusterGraph, first: Any, second: Any) -> Any:
    """The rows that merging each pair saves: one for each side that both clusters have."""
    users, items = (occupied[first] & occupied[second] for occupied in clusters.occupied)
    return users.astype(int) + items.astype(int)


def _within_excess(xp: Any, saved: Any, gain: Any, first: Any, excess: int) -> Any:
    """The pairs of greatest gain that together save at most `excess` rows; one pair at least."""
    if int(saved.sum()) <= excess:
        return xp.arange(len(saved))  # none, where there are no pairs
    order = xp.lexsort(xp.stack([first.astype(float), -gain]))
    running = xp.cumsum(saved[order])
    fitting = int((running <= excess).sum())
    left = excess - (int(running[fitting - 1]) if fitting else 0)
    chosen = order[:fitting]
    if left:  # the next pair saves two rows where one is left: a later pair may save just one
        single = order[fitting:][saved[order[fitting:]] == 1][:1]
        chosen = xp.concatenate([chosen, single])
    return chosen if len(chosen) else order[:1]


def _relabelling(xp: Any, num_clusters: int, kept: Any, absorbed: Any, dtype: Any) -> tuple[Any, int]:
    """New ids 0..K'-1 for the clusters, in order, every absorbed one taking its keeper's."""
    stays = xp.ones(num_clusters, dtype=bool)
    stays[absorbed] = False
    relabel = (xp.cumsum(stays) - 1).astype(dtype)
    relabel[absorbed] = relabel[kept]
    return relabel, num_clusters - len(absorbed)
