"""Merging clusters until the codebook has just the rows that the budget allows.

Q is a sum over clusters, so merges of disjoint pairs add up exactly. Every cluster names the neighbour whose merge
gains most; pairs that name each other merge. Merges that lower Q are made only when none is left that raises it.
"""

from __future__ import annotations

from typing import Any

from baco_gpu.clustering.backends.base import ITEMS, USERS, Backend, ClusterGraph, Partition, Partners, Problem


def merge_to(
    backend: Backend, problem: Problem, partition: Partition, penalty: float, target_rows: int | None
) -> Partition:
    """Merge clusters until at most `target_rows` codebook rows are left, or, without a target, as long as Q rises.

    The result has `target_rows` rows, or one row less where only merges that save two rows are left, or the rows that
    `partition` had if those were fewer; its labels are 0..K-1, in the order of the smallest label merged.
    """
    merged = compact(backend, partition)
    clusters = backend.contract(problem, merged)
    group = backend.xp.arange(clusters.num_clusters, dtype=merged.labels[USERS].dtype)
    within = merged.within
    while True:
        excess = None if target_rows is None else rows_of(clusters) - target_rows
        if excess is not None and excess <= 0:
            break
        partners = backend.best_partners(clusters, penalty)
        kept, absorbed, between = _merges_of_round(backend.xp, clusters, partners, penalty, excess)
        if not len(kept):
            break
        relabel, num_clusters = _relabelling(backend.xp, clusters.num_clusters, kept, absorbed, group.dtype)
        clusters = backend.contract_again(clusters, relabel, num_clusters)
        group = relabel[group]
        within += int(between.sum())
    users, items = merged.labels
    return Partition((group[users], group[items]), clusters.volumes, within)


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
) -> tuple[Any, Any, Any]:
    """Disjoint pairs to merge now (kept id < absorbed id), and the weight between them.

    They save at most `excess` rows, unless the only pairs left save two rows where one is asked for.
    """
    first, second, gain, between = _mutual_pairs(xp, partners)
    rising = gain > 0
    if excess is None or bool(rising.any()):
        first, second, gain, between = first[rising], second[rising], gain[rising], between[rising]
    else:
        first, second, gain, between = _least_losses(
            xp, (first, second, gain, between), _pairs_of_components(xp, clusters, partners, penalty)
        )
    if excess is None or not len(first):
        return first, second, between
    saved = sum(occupied[first].astype(int) + occupied[second].astype(int) > 1 for occupied in clusters.occupied)
    chosen = _within_excess(xp, saved, gain, first, excess)
    return first[chosen], second[chosen], between[chosen]


def _mutual_pairs(xp: Any, partners: Partners) -> tuple[Any, Any, Any, Any]:
    """Pairs of clusters that are each other's best partner. Where there is any edge there is at least one such pair:
    of the edges of the greatest gain, one at the smallest id, by the rule for ties."""
    ids = xp.arange(len(partners.cluster))
    # A partner of -1 looks up the last cluster, which never names -1 back as an id.
    mutual = (partners.cluster > ids) & (partners.cluster[partners.cluster] == ids)
    first = xp.flatnonzero(mutual)
    return first, partners.cluster[first], partners.gain[first], partners.between[first]


def _pairs_of_components(
    xp: Any, clusters: ClusterGraph, partners: Partners, penalty: float
) -> tuple[Any, Any, Any, Any]:
    """Clusters without any neighbour (whole components of the graph), paired in ascending order of their volumes."""
    users, items = clusters.volumes
    alone = xp.flatnonzero(partners.cluster < 0)
    alone = alone[xp.argsort(users[alone] + items[alone], kind="stable")]
    alone = alone[: len(alone) // 2 * 2].reshape(-1, 2)
    first, second = alone.min(axis=1), alone.max(axis=1)
    user_volumes, item_volumes = users.astype(float), items.astype(float)
    crossing = user_volumes[first] * item_volumes[second] + item_volumes[first] * user_volumes[second]
    return first, second, -penalty * crossing, xp.zeros(len(first), dtype=users.dtype)


def _least_losses(xp: Any, *candidates: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    """The better half of pairs whose merges lose: the others may find better partners in a later round."""
    first, second, gain, between = (xp.concatenate(parts) for parts in zip(*candidates, strict=True))
    order = xp.lexsort(xp.stack([first.astype(float), -gain]))[: (len(first) + 1) // 2]
    return first[order], second[order], gain[order], between[order]


def _within_excess(xp: Any, saved: Any, gain: Any, first: Any, excess: int) -> Any:
    """The pairs of greatest gain that together save at most `excess` rows; one pair at least."""
    if int(saved.sum()) <= excess:
        return xp.arange(len(saved))
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
