"""Merging on the CPU: best partners straight from the edges of clusters' members, and again only where they can change.

No graph of clusters is made. A cluster that merges leaves its list of members to the other, and its members get their
new label in place; only clusters that have changed go through their edges again. They offer what they find to their
neighbors, for whom the gain is the same.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from baco_gpu.clustering.backends import cpu_kernels, cpu_merging
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Excess, Partition, Problem, Proposals, room_for_followers
from baco_gpu.clustering.backends.cpu_kernels import Members
from baco_gpu.clustering.backends.cpu_nodes import group_by_label
from baco_gpu.clustering.backends.cpu_tables import Tables, chunks_of, in_chunks
from baco_gpu.parallel import run


class CpuClusters:
    """See `Clusters`."""

    def __init__(self, problem: Problem, penalty: float, tables: Tables, *, shared: bool) -> None:
        self._problem = problem
        self._penalty = penalty
        self._tables = tables
        self._shared = shared
        self.codebook_rows = (0, 0)
        nobody = np.empty(0, problem.sides[USERS].neighbors.dtype)
        self._labels: tuple[np.ndarray, np.ndarray] = (nobody, nobody)
        self._know_nothing(0)

    def _know_nothing(self, size: int) -> None:
        self._size: int = size  # clusters when the level began
        self._changed: np.ndarray = np.ones(size, np.bool_)
        self._merges: cpu_merging.Merges = cpu_merging.Merges(
            np.full(size, -1), np.full(size, -np.inf), np.full(size, -1), np.full(size, -np.inf)
        )
        self._facts: np.ndarray = np.empty((size, 4))
        self._own: np.ndarray = np.empty(size, np.int64)

    def begin(self, partition: Partition) -> None:
        users, items = partition.labels
        if partition.num_labels == self._size:
            for labels, before in zip((users, items), self._labels, strict=True):
                moved = labels != before
                self._changed[labels[moved]] = True
                self._changed[before[moved]] = True
        else:
            self._know_nothing(partition.num_labels)
        self._labels = (users, items)
        self._groups = (group_by_label(users, self._size), group_by_label(items, self._size))
        self._volumes = np.column_stack(partition.volumes)
        self._occupied = np.column_stack([np.diff(starts) > 0 for _, starts in self._groups])
        if self._shared:
            self._occupied[:] = (True, False)
        has_users, has_items = self._occupied.T
        self.codebook_rows = (int(np.count_nonzero(has_users)), int(np.count_nonzero(has_items)))
        self._alive = np.arange(self._size)
        self._follower, self._last = np.full(self._size, -1), np.arange(self._size)
        self._within: int | None = partition.within
        self._decided = False

    def merge_rising(self, excess: list[Excess]) -> bool:
        self._decide()
        keepers, followers = np.empty(self._size, np.int64), np.empty(len(self._alive), np.int64)
        pairs, *saved, count = cpu_merging.rising_pairs(self._alive, self._merges, self._occupied, keepers, followers)
        room = room_for_followers(count, excess, saved)
        if not pairs or room < 0:
            return False
        if count:
            followers = followers[:count]
            followers = followers[np.argsort(-self._merges.gain[followers], kind="stable")]
            before, waits = np.zeros_like(self._volumes), np.zeros(self._size, np.bool_)
            cpu_merging.join_followers(
                followers, self._merges, self._volumes, self._penalty, room, keepers, before, waits
            )
        self._merge(keepers)
        return True

    def proposals(self) -> Proposals:
        self._decide()
        alive, partner = self._alive, self._merges.partner[self._alive]
        partner = np.where(partner < 0, -1, np.searchsorted(alive, partner))
        users, items = self._volumes[alive].T
        has_users, has_items = self._occupied[alive].T
        return Proposals(partner, self._merges.gain[alive], (users, items), (has_users, has_items))

    def merge(self, keepers: np.ndarray) -> None:
        every = np.arange(self._size)
        every[self._alive] = self._alive[keepers]
        self._merge(every)

    def partition(self) -> Partition:
        within = self._weight_within()
        alive, places = self._alive, np.empty(self._size, self._labels[USERS].dtype)
        cpu_merging.places_of(alive, self._follower, places)
        users, items = (places[labels] for labels in self._labels)
        user_volumes, item_volumes = (np.ascontiguousarray(volumes) for volumes in self._volumes[alive].T)
        partner, gain, next_partner, next_gain = (values[alive] for values in self._merges)
        for values in (partner, next_partner):
            values[values >= 0] = places[values[values >= 0]]
        self._merges = cpu_merging.Merges(partner, gain, next_partner, next_gain)
        self._facts, self._own, self._changed = self._facts[alive], self._own[alive], self._changed[alive]
        self._labels, self._size = (users, items), len(alive)
        return Partition((users.copy(), items.copy()), (user_volumes, item_volumes), within)

    def _merge(self, keepers: np.ndarray) -> None:
        users, items = ((labels, *group) for labels, group in zip(self._labels, self._groups, strict=True))
        left, *saved = cpu_merging.merge_into(
            self._alive,
            keepers,
            self._volumes,
            self._occupied,
            self._follower,
            self._last,
            self._changed,
            users,
            items,
        )
        self._alive = self._alive[:left]
        users_left, items_left = (rows - fewer for rows, fewer in zip(self.codebook_rows, saved, strict=True))
        self.codebook_rows = (users_left, items_left)
        self._within = None
        self._decided = False

    def _decide(self) -> None:
        """Find the best partner of every cluster."""
        if self._decided:
            return
        alive, facts, merges = self._alive, self._facts, self._merges
        todo = np.empty(len(alive), np.int64)
        count = cpu_merging.begin_round(alive, self._changed, self._volumes, facts, merges, todo)
        self._find(todo[:count], offering=count < len(alive))
        if count < len(alive):
            count = cpu_merging.undecided(alive, facts, merges, todo)
            self._find(todo[:count], offering=False)
        self._decided = True

    def _find(self, clusters: np.ndarray, *, offering: bool) -> None:
        """Find the best two merges of clusters; `offering`, tell their neighbors."""
        sides, costs = self._members(clusters)
        chunks = chunks_of(costs)
        ids = self._labels[USERS].dtype
        offers = []
        for begin, end in chunks:
            room = int(costs[begin:end].sum()) if offering else 0
            offers.append((np.empty(room, ids), np.empty(room, ids), np.empty(room)))
        common = (clusters, costs, self._facts, self._penalty, self._merges, self._own, offering)
        longest, weights = int(costs.max(initial=0)), self._problem.sides[USERS].edge_weights
        with self._tables.taken(len(chunks), longest, self._size, ids, weighted=weights is not None) as tables:
            counts = run(
                [
                    partial(cpu_kernels.best_merges, *chunk, *common, *told, sides, *table)
                    for chunk, told, table in zip(chunks, offers, tables, strict=False)
                ]
            )
        for count, told in zip(counts, offers, strict=True):
            cpu_merging.accept(*(values[:count] for values in told), self._facts, self._merges)

    def _members(self, clusters: np.ndarray) -> tuple[tuple[Members, Members], np.ndarray]:
        """The members of clusters on each side, cluster after cluster, and how many edges those of each have."""
        costs = np.zeros(len(clusters), np.int64)
        sides = []
        for side, (members, starts) in enumerate(self._groups):
            offsets, neighbors, weights, _ = self._problem.sides[side]
            nodes, bounds = np.empty(len(members), np.int64), np.empty(len(clusters) + 1, np.int64)
            cpu_merging.members_of(clusters, self._follower, members, starts, offsets, nodes, bounds, costs)
            sides.append(Members(nodes, bounds, offsets[:-1], offsets[1:], neighbors, weights, self._labels[1 - side]))
        return (sides[USERS], sides[ITEMS]), costs

    def _weight_within(self) -> int:
        if self._within is None:
            clusters = self._alive[self._changed[self._alive]]
            (users, _), costs = self._members(clusters)
            in_chunks(chunks_of(costs), cpu_merging.own_weights, clusters, *users, self._own)
            self._within = int(self._own[self._alive].sum()) // 2
        return self._within
