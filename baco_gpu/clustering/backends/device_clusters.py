"""Merging on a device: best partners straight from members' edges, and again only where they can have changed.

The same algorithm as `baco_gpu.clustering.backends.cpu_clusters`, over the kernels of rounds.cu, clusters.cu and
followers.cu. The members of clusters are grouped anew in every round, by a histogram, places taken from a counter, and
a scatter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from baco_gpu.clustering.backends.backend import (
    ITEMS,
    USERS,
    Array,
    Excess,
    Partition,
    Problem,
    Proposals,
    room_for_followers,
)
from baco_gpu.cuda.plan import MergePlan, plan_merging, shared_grid

# What the kernels count in a round: see `Count` in rounds.cuh.
_SHORT, _MIDDLE, _HUBS, _SLOTS, _SECOND_PASS = range(5)
_USER_ROWS, _ITEM_ROWS, _COUNTS = 11, 12, 13
_ALIVE = 10
_PIECE_BITS = 36
_KNOWN, _CHANGED = 0, 1
_LEAST = (1 << 52) - 1  # minus infinity, as a word in the order of numbers


class _Lists(NamedTuple):
    """Clusters that look at their edges, by their number, and where the tables and pieces of hubs begin."""

    short: Array
    middle: Array
    hubs: Array
    first_pieces: Array
    first_slots: Array


class DeviceClusters:
    """See `Clusters`."""

    def __init__(self, backend: Any, problem: Problem, penalty: float, *, shared: bool) -> None:
        self._xp, self._launch, self._backend = backend.xp, backend._launch, backend
        self._problem, self._penalty, self._shared = problem, penalty, shared
        users = problem.sides[USERS]
        self._ids = users.neighbors.dtype
        self._id = "int" if self._ids.itemsize == 4 else "long long"
        self._weighted = "true" if users.edge_weights is not None else "false"
        self._num_nodes = problem.num_users + problem.num_items
        self.codebook_rows = (0, 0)
        self._size = -1
        self._labels: tuple[Array, Array] = (None, None)
        self._hub_labels, self._hub_sums = self._xp.empty(0, dtype=self._ids), self._xp.empty(0, dtype=self._xp.int64)

    def begin(self, partition: Partition) -> None:
        xp, size = self._xp, partition.num_labels
        users, items = (labels.copy() for labels in partition.labels)
        before = self._labels if size == self._size else (None, None)
        if size != self._size:
            self._size = size
            self._states = xp.full(size, _CHANGED, dtype=xp.uint8)
            self._partners = xp.full(size, -1, dtype=self._ids)
            self._best, self._bounds = (xp.full(size, _LEAST, dtype=xp.uint64) for _ in range(2))
        # While all clusters have changed there is nobody to offer anything to.
        self._offering = before[USERS] is not None
        self._sizes, self._costs = xp.zeros(size, dtype=xp.int64), xp.zeros(size, dtype=xp.int64)
        self._rows = xp.zeros(size, dtype=xp.int32)
        self._volumes = xp.stack(partition.volumes, axis=1)
        self._run(
            "size_clusters",
            self._num_nodes,
            *(self._problem.num_users, self._problem.num_items, users, items, *before, *self._offsets()),
            *(self._sizes, self._costs, self._rows, self._states),
        )
        if self._shared:
            self._rows[:] = 1
        self._labels = (users, items)
        plan = self._plan = self._planned(size)
        short, middle, hubs = (xp.empty(count, dtype=self._ids) for count in (size, size, plan.hubs))
        first_pieces, first_slots = (xp.empty(plan.hubs, dtype=xp.int64) for _ in range(2))
        self._lists = _Lists(short, middle, hubs, first_pieces, first_slots)
        self._starts, self._filled = (xp.empty(size, dtype=xp.int64) for _ in range(2))
        self._firsts, self._waits = (xp.empty(size, dtype=xp.int64) for _ in range(2))
        self._follows = xp.empty(size, dtype=xp.uint8)
        self._offers, self._offered = xp.empty(2 * size, dtype=self._ids), xp.empty(size, dtype=xp.uint64)
        self._counts, self._pair_counts = xp.zeros(_COUNTS, dtype=xp.int64), xp.zeros(4, dtype=xp.int64)
        self._keepers = xp.arange(size, dtype=self._ids)
        self._num_alive = size
        self._begin_round()

    def merge_rising(self, excess: list[Excess]) -> bool:
        self._decide()
        pairs, *saved, count = self._pairs
        room = room_for_followers(count, excess, saved)
        if not pairs or room < 0:
            return False
        if count:
            self._join_followers(count, room)
        self._merge()
        return True

    def proposals(self) -> Proposals:
        self._decide()
        xp, kept = self._xp, self._kept()
        places = self._places()
        partner = self._partners[kept]
        partner = xp.where(partner < 0, -1, places[partner]).astype(xp.int64)
        gain = self._gains(self._best[kept])
        rows = self._rows[kept]
        users, items = (self._volumes[kept, side] for side in (USERS, ITEMS))
        return Proposals(partner, gain, (users, items), ((rows & 1) > 0, (rows & 2) > 0))

    def merge(self, keepers: Array) -> None:
        kept = self._kept()
        self._keepers = self._xp.arange(self._size, dtype=self._ids)
        self._keepers[kept] = kept[keepers].astype(self._ids)
        self._merge()

    def partition(self) -> Partition:
        xp, kept = self._xp, self._kept()
        places = self._places()[self._keepers]
        users, items = (places[labels] for labels in self._labels)
        volumes = self._volumes[kept]
        user_volumes, item_volumes = volumes[:, USERS].copy(), volumes[:, ITEMS].copy()
        partners = self._partners[kept]
        self._partners = xp.where(partners < 0, -1, places[partners]).astype(self._ids)
        self._best, self._bounds, self._states = self._best[kept], self._bounds[kept], self._states[kept]
        self._labels, self._size = (users, items), self._num_alive
        within = self._backend.weight_within(self._problem, (users, items))
        return Partition((users.copy(), items.copy()), (user_volumes, item_volumes), within)

    def _merge(self) -> None:
        """Let every cluster become part of its keeper."""
        of_clusters = (self._sizes, self._costs, self._rows, self._volumes, self._states)
        self._run("merge_clusters", self._size, self._size, self._keepers, *of_clusters)
        self._offering = True
        self._begin_round()

    def _begin_round(self) -> None:
        """List the clusters that have changed, and count what is left."""
        self._num_labels = self._num_alive  # tables are for as many labels as there were in the round before
        self._run(
            *("begin_round", self._size, self._size, self._sizes, self._costs, self._rows),
            *(self._starts, self._filled, *self._known(), *self._listing(), self._counts, self._pair_counts),
        )
        counts = self._backend.to_host(self._counts).tolist()
        self.codebook_rows = (counts[_USER_ROWS], counts[_ITEM_ROWS])
        self._num_alive = counts[_ALIVE]
        self._listed = counts[:_SECOND_PASS]
        self._decided = False

    def _decide(self) -> None:
        """Find the best partner of every cluster, and which pairs of them merge."""
        if self._decided:
            return
        xp = self._xp
        self._members = self._ends = None  # before there are others
        members, lengths = xp.empty(self._num_nodes, dtype=self._ids), xp.empty(self._num_nodes, dtype=xp.int64)
        self._run(
            *("group_members", self._num_nodes, self._problem.num_users, self._problem.num_items, self._keepers),
            *(self._starts, self._filled, *self._offsets(), *self._labels, members, lengths),
        )
        self._members, self._ends = members, xp.cumsum(lengths)
        self._find(0, self._listed)
        if self._offering:
            self._run(
                *("list_undecided", self._size, self._size, self._sizes, self._costs, *self._known()),
                *(*self._listing(), self._counts),
            )
            counts = self._backend.to_host(self._counts).tolist()
            self._find(1, counts[_SECOND_PASS : 2 * _SECOND_PASS])
        self._run(
            *("pair_clusters", self._size, self._size, self._sizes, self._rows, self._partners, self._best),
            *(self._states, self._keepers, self._follows, self._pair_counts, self._counts, _COUNTS),
        )
        self._pairs = self._backend.to_host(self._pair_counts).tolist()
        self._decided = True

    def _find(self, number: int, listed: list[int]) -> None:
        """Find the best merges of the clusters on the lists, in the first pass over them or the second."""
        xp, limits, processors = self._xp, self._launch.limits, self._launch.processors
        short, middle, packed, slots = listed
        offering = self._offering and number == 0
        users, items = self._problem.sides
        groups = [self._members, self._starts, self._sizes, self._ends, self._problem.num_users]
        groups += [*users[:3], *items[:3], *self._labels, self._costs]
        merges = [self._volumes, self._penalty, *self._known(), offering, self._offers, self._offered, self._size]
        if short or middle:
            blocks = shared_grid(max(middle, -(-short // limits.warps)), 1, processors)
            lists = (self._lists.short, self._lists.middle, self._counts, number)
            self._launch("merges_of_clusters", (self._id, self._weighted), blocks, [*lists, *groups, *merges])
        pieces = packed & ((1 << _PIECE_BITS) - 1)
        found = [xp.empty(pieces, dtype=dtype) for dtype in (self._ids, self._ids, xp.uint64)]
        blocks = shared_grid(pieces, limits.warps, processors)
        self._take_tables(min(slots, self._plan.wave_slots) + self._plan.longest_table if pieces else 0)
        for wave in range(-(-slots // self._plan.wave_slots)):
            hubs = [*self._lists[2:], self._counts, number, wave, self._plan.wave_slots, self._num_labels]
            hubs += [self._hub_labels, self._hub_sums]
            self._launch("add_hubs", (self._id, self._weighted), blocks, [*hubs, *groups])
            self._launch("merges_of_hubs", (self._id,), blocks, [*hubs, self._costs, *merges, *found])
        if pieces or offering:
            self._run(
                *("accept_merges", self._size, self._counts, number, self._offers, self._offered, self._size),
                *(*found, self._best, self._partners),
            )

    def _take_tables(self, slots: int) -> None:
        """Room in global memory for tables of hubs, which are empty from launch to launch."""
        if slots > len(self._hub_labels):
            self._hub_labels = self._xp.full(slots, -1, dtype=self._ids)
            self._hub_sums = self._xp.zeros(slots, dtype=self._xp.int64)

    def _planned(self, size: int) -> MergePlan:
        users, items = self._problem.sides
        edges = len(users.neighbors) + len(items.neighbors)
        weighted = users.edge_weights is not None
        return plan_merging(edges, size, self._ids.itemsize, weighted, self._launch.limits)

    def _join_followers(self, count: int, room: int) -> None:
        """Let followers join their pairs, `room` of them at most, in descending order of gain."""
        xp, size = self._xp, self._size
        followers, words = xp.empty(count, dtype=self._ids), xp.empty(count, dtype=xp.uint64)
        running = xp.cumsum(self._follows, dtype=xp.int64)
        self._run("list_followers", size, size, self._follows, running, self._best, followers, words)
        order = xp.argsort(words, kind="stable")
        keys = xp.empty(count, dtype=xp.int64)
        self._run("follower_keys", count, count, followers, order, self._partners, keys)
        keys = xp.sort(keys)
        by_leader = (count, followers, order, keys)
        own = xp.empty(2 * count, dtype=xp.int64)
        self._run("follower_volumes", count, *by_leader, self._volumes, own, self._firsts, self._waits)
        self._run(
            *("follower_waits", count, *by_leader, self._partners, self._best, self._volumes, own, xp.cumsum(own)),
            *(self._penalty, self._firsts, self._waits),
        )
        running = None
        if room < count:
            joined = xp.empty(count, dtype=xp.uint8)
            self._run("join_followers", count, *by_leader, self._waits, joined, None, room, self._keepers)
            running = xp.cumsum(joined, dtype=xp.int64)
        self._run("join_followers", count, *by_leader, self._waits, None, running, room, self._keepers)

    def _run(self, kernel: str, count: int, *arguments: Any) -> None:
        """Launch a kernel whose threads go through `count` things."""
        threads, processors = self._launch.limits.threads, self._launch.processors
        self._launch(kernel, (self._id,), shared_grid(count, threads, processors), arguments)

    def _known(self) -> tuple[Array, Array, Array, Array]:
        return self._states, self._partners, self._best, self._bounds

    def _listing(self) -> tuple[Any, ...]:
        return *self._lists, self._num_labels, *self._plan.edges

    def _offsets(self) -> tuple[Array, Array]:
        users, items = self._problem.sides
        return users.offsets, items.offsets

    def _kept(self) -> Array:
        """The clusters that are left, in ascending order."""
        return self._backend.places(self._sizes > 0, self._num_alive)

    def _places(self) -> Array:
        """Where every cluster that is left is among them."""
        return (self._xp.cumsum(self._sizes > 0) - 1).astype(self._ids)

    def _gains(self, words: Array) -> Array:
        """The numbers of words in the order of numbers."""
        xp = self._xp
        top = xp.uint64(1 << 63)
        return xp.where(words >= top, words ^ top, ~words).view(xp.float64)
