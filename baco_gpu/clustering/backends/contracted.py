"""Merging by contraction: after every round the graph of clusters is made anew, from the one before."""

from __future__ import annotations

from typing import Any

from baco_gpu.clustering.backends.backend import (
    USERS,
    Array,
    ClusterGraph,
    Excess,
    Partition,
    Problem,
    Proposals,
    read,
    room_for_followers,
)


class ContractedClusters:
    """See `Clusters`; over the primitives `contract`, `contract_again` and `best_partners` of any backend.

    Nothing outlives a level.
    """

    def __init__(self, backend: Any, problem: Problem, penalty: float, *, shared: bool) -> None:
        self._backend = backend
        self._problem = problem
        self._penalty = penalty
        self._shared = shared
        self._proposals: Proposals | None = None
        self.codebook_rows = (0, 0)

    def begin(self, partition: Partition) -> None:
        self._labels = partition.labels
        self._take(self._backend.contract(self._problem, partition, shared=self._shared))
        self._group = self._backend.xp.arange(partition.num_labels, dtype=self._labels[USERS].dtype)

    def merge_rising(self, excess: list[Excess]) -> bool:
        xp, backend, proposals = self._backend.xp, self._backend, self.proposals()
        partner, gain = proposals[:2]
        ids = xp.arange(len(partner))
        # A partner of -1 looks up the last cluster, which never names -1 back as an id.
        mutual = partner[partner] == ids
        rises = gain > 0
        paired = mutual & rises
        follows = rises & ~mutual & paired[partner]
        rising = paired & (partner > ids)
        saving = [occupied & occupied[partner] & rising for occupied in proposals.occupied]
        masks = (rising, follows, *saving)
        num_rising, num_following, *saved = read(backend, *map(xp.count_nonzero, masks))
        room = room_for_followers(num_following, excess, saved)
        if not num_rising or room < 0:
            return False
        keepers = xp.where(paired, xp.minimum(ids, partner), ids)
        if num_following:
            follower = backend.places(follows, num_following)
            follower, leader = _followers(xp, proposals, self._penalty, follower, room)
            keepers[follower] = leader
        self.merge(keepers)
        return True

    def proposals(self) -> Proposals:
        if self._proposals is None:
            partners = self._backend.best_partners(self._graph, self._penalty)
            self._proposals = Proposals(partners.cluster, partners.gain, self._graph.volumes, self._graph.occupied)
        return self._proposals

    def merge(self, keepers: Array) -> None:
        relabel = _relabelling(self._backend.xp, keepers, self._group.dtype)
        self._take(self._backend.contract_again(self._graph, relabel))
        self._group = relabel[self._group]

    def partition(self) -> Partition:
        users, items = self._labels
        labels, volumes = (self._group[users], self._group[items]), self._graph.volumes
        # The graph of clusters would take its room from the sweeps of the next level, and from the next one made.
        del self._graph, self._group, self._labels
        self._proposals = None
        return Partition(labels, volumes, self._backend.weight_within(self._problem, labels))

    def _take(self, graph: ClusterGraph) -> None:
        self._graph = graph
        self.codebook_rows = graph.codebook_rows
        self._proposals = None


def _followers(xp: Any, proposals: Proposals, penalty: float, follower: Array, room: int) -> tuple[Array, Array]:
    """Clusters whose best partner is one of a merging pair, and whom they become part of now: the pair's first cluster,
    or themselves where they wait for the next round. At most `room` join. See `Clusters.merge_rising`."""
    # In descending order of gain; of equal gains in that of ids, in which the followers came.
    follower = follower[xp.argsort(-proposals.gain[follower], kind="stable")]
    gain, half = proposals.gain[follower], proposals.partner[follower]
    leader = xp.minimum(half, proposals.partner[half])
    # By leader, otherwise in the same order.
    order = xp.argsort(leader, kind="stable")
    starts = xp.searchsorted(leader[order], leader[order])
    here, rest = follower[order], proposals.partner[half[order]]
    users, items = (volumes[here] for volumes in proposals.volumes)
    rest_users, rest_items = (
        (volumes[rest] + _sums_before(xp, own, starts)).astype(float)
        for volumes, own in zip(proposals.volumes, (users, items), strict=True)
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
