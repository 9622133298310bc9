"""What a backend is: a handful of primitives on arrays that live on its device. The solvers know nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = Any  # numpy.ndarray on the CPU, cupy.ndarray on a GPU

USERS, ITEMS = 0, 1


class IntegerEdges(NamedTuple):
    """The edge weights of one graph as integers.

    Attributes
    ----------
    weights : pair of int64 arrays (in the order of the users' and of the items' edges), or pair of None for 1 each
    degrees : pair of int64 arrays (users, items): the summed weights of every node's edges
    unit : float, what stands for an edge weight of 1, a power of two
    """

    weights: tuple[Any, Any]
    degrees: tuple[np.ndarray, np.ndarray]
    unit: float


class NodeWeights(NamedTuple):
    """Integer weights of one graph under one scheme.

    Attributes
    ----------
    edges : pair of int64 arrays (in the order of the users' and of the items' edges), or pair of None for 1 everywhere
    nodes : pair of int64 arrays (users, items); a node without edges weighs 0 under every scheme
    unit : float, what stands for an edge weight of 1, a power of two
    node_unit : float, what stands for a node weight of 1, a power of two
    penalty_per_gamma : float, what gamma is multiplied by to price a product of two integer volumes in edge units
    """

    edges: tuple[Any, Any]
    nodes: tuple[np.ndarray, np.ndarray]
    unit: float
    node_unit: float
    penalty_per_gamma: float


class Side(NamedTuple):
    """One side of the bipartite graph: the edges of its nodes, and the nodes' weights.

    Attributes
    ----------
    offsets : int64 array of shape (nodes + 1,)
    neighbors : int32 or int64 array of shape (edges,): ids on the other side
    edge_weights : int64 array of shape (edges,) in fixed point, or None for 1 everywhere
    node_weights : int64 array of shape (nodes,) in fixed point
    """

    offsets: Array
    neighbors: Array
    edge_weights: Array | None
    node_weights: Array


class Problem(NamedTuple):
    """The graph and its weights on the device: users first, items second.

    `streamed` says that the edges and their weights are in the host's memory, since the device has no room for them.
    """

    sides: tuple[Side, Side]
    num_users: int
    num_items: int
    streamed: bool = False

    def connected(self, side: int) -> Array:
        """Which nodes of a side have an edge: a bool array."""
        offsets = self.sides[side].offsets
        return offsets[1:] > offsets[:-1]


@dataclass
class Partition:
    """The state of a solver: labels that users and items share, and what is kept about them, exact after every sweep.

    Attributes
    ----------
    labels : pair of integer arrays (users, items), values in [0, num_labels)
    volumes : pair of int64 arrays of shape (num_labels,): the summed node weights of every label's users and items
    within : int, the summed weight of the edges whose ends share a label, in fixed point
    """

    labels: tuple[Array, Array]
    volumes: tuple[Array, Array]
    within: int

    @property
    def num_labels(self) -> int:
        return len(self.volumes[USERS])

    def copy(self) -> Partition:
        users, items = self.labels
        user_volumes, item_volumes = self.volumes
        return Partition((users.copy(), items.copy()), (user_volumes.copy(), item_volumes.copy()), self.within)


class ClusterGraph(NamedTuple):
    """The weighted graph of clusters: what is left when every cluster is contracted to a point.

    The neighbors of cluster c are `neighbors[rows[c] : rows[c] + counts[c]]`, each once, never c itself, in no
    particular order; `weights` are the summed weights of the edges between the two, in both directions of the
    bipartite graph, so the graph is symmetric. `codebook_rows` are the clusters that have a row for users, and those
    that have one for items. Where the sides share their rows, all of them count as those of users.
    """

    rows: Array
    counts: Array
    neighbors: Array
    weights: Array
    volumes: tuple[Array, Array]
    occupied: tuple[Array, Array]  # bool: does the cluster have a row for users, one for items
    codebook_rows: tuple[int, int]

    @property
    def num_clusters(self) -> int:
        return len(self.counts)


class ArrivedRows(NamedTuple):
    """Rows of a graph of clusters that other processes had; a cluster may have several, each with its own neighbors.

    The neighbors of cluster `clusters[k]` are `neighbors[begins[k] : begins[k] + counts[k]]`; `weights` as in
    `ClusterGraph`.
    """

    clusters: Array
    begins: Array
    counts: Array
    neighbors: Array
    weights: Array


class Partners(NamedTuple):
    """For every cluster the neighbor whose merge gains most: its id (-1 for none), and the gain."""

    cluster: Array
    gain: Array


class Excess(NamedTuple):
    """Rows of these sides that are beyond their target; below zero where rows are missing."""

    sides: tuple[int, ...]
    rows: int


def room_for_followers(followers: int, excess: list[Excess], saved: Sequence[int]) -> int:
    """How many followers may join (see `Clusters.merge_rising`) once pairs have saved rows of users and of items.

    A follower may save a row of each side: near the budget pairs go alone, and stop at the very row. Below zero where
    the pairs save more than there is to save; all followers where there is no excess to keep to.
    """
    rooms = ((each.rows - sum(saved[side] for side in each.sides)) // len(each.sides) for each in excess)
    return min(rooms, default=followers)


class Proposals(NamedTuple):
    """What the clusters of a round, 0..K-1, would do next.

    Attributes
    ----------
    partner : int64 array of shape (K,), the neighbor whose merge gains most, the smallest such id; -1 for none
    gain : float64 array of shape (K,), what that merge adds to Q, in the units of the fixed-point weights
    volumes : pair of int64 arrays of shape (K,)
    occupied : pair of bool arrays of shape (K,): does the cluster have a row for users, one for items
    """

    partner: Array
    gain: Array
    volumes: tuple[Array, Array]
    occupied: tuple[Array, Array]


class Clusters(Protocol):
    """The clusters of one problem as they merge at one penalty: `begin` a level, merge in rounds, take the `partition`.

    `codebook_rows` are those of `ClusterGraph`. What is known of merges may outlive a level; only times depend on that.
    """

    codebook_rows: tuple[int, int]

    def begin(self, partition: Partition) -> None:
        """Take over a partition whose labels are 0..K-1, each with at least one member."""

    def merge_rising(self, excess: list[Excess]) -> bool:
        """Merge every pair of clusters that name each other as best partner and whose merge raises Q, with followers.

        A follower is a cluster whose best partner is in such a pair. The followers of a pair join it in descending
        order of gain. What one gains by joining all that went before it is at least its gain with its partner less the
        price of the volumes of the rest, since the edges to the rest are not counted; the first one for whom that is
        not positive waits for the next round, and so do all after it.

        No more rows are saved than each `excess` has: of followers that do not wait, as many join as may each save a
        row of every side, those of greatest gain. False, and nothing merged, where no pair raises Q or the pairs alone
        save more.
        """

    def proposals(self) -> Proposals:
        """What every cluster that is left would do next."""

    def merge(self, keepers: Array) -> None:
        """Let every cluster of `proposals` become part of the one that `keepers` names, itself where it stays."""

    def partition(self) -> Partition:
        """The clusters that are left, under the labels 0..K-1 in the order of their least labels before."""


class Backend(Protocol):
    """The primitives. `penalty` is gamma in the units of the fixed-point weights; `stream` names a family of hashes."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def xp(self) -> Any:
        """The array module: numpy or cupy."""

    def at_work(self) -> AbstractContextManager[None]:
        """For the block of a solve: the device of the backend is the current one of this thread, and its faults are
        told as errors of ours."""

    def load(self, graph: Any, weights: NodeWeights, *, merging: bool = True, contracting: bool = False) -> Problem:
        """Put a `BipartiteGraph` and its weights on the device, if it has room to solve them: with or without merging,
        which is by contraction where `contracting`, as between several processes.

        Several processes load their `GraphShare` each.
        """

    def volumes(self, problem: Problem, labels: tuple[Array, Array], num_labels: int) -> tuple[Array, Array]:
        """The exact int64 volume of every label on both sides."""

    def weight_within(self, problem: Problem, labels: tuple[Array, Array]) -> int:
        """The exact weight of the edges whose ends share a label."""

    def blocks(self, problem: Problem, side: int, stream: int, num_blocks: int) -> list[Any]:
        """Deal the nodes of a side into blocks by hash, for `move`."""

    def holding(
        self, partition: Partition, streams: tuple[int | None, int | None]
    ) -> AbstractContextManager[tuple[Array | None, Array | None]]:
        """For the moves of a sweep that holds the rows of the sides that have a stream: their anchors, for `move`.

        Those are for every label one member of the side, chosen by hash; -1 where the label has none there. Meanwhile
        the volumes are the backend's own affair.
        """

    def move(
        self,
        problem: Problem,
        partition: Partition,
        side: int,
        block: Any,
        penalty: float,
        anchors: Array | None,
        totals: Array,
    ) -> None:
        """Give the nodes of a block their best labels, in place, anchors excepted.

        Volumes follow. What the weight within clusters gains, and how many nodes move, is added to `totals`, an int64
        array of shape (2,) on the device, which the host need not wait for.
        """

    def adopt(self, problem: Problem, partition: Partition, side: int, nodes: Array, found: Array) -> None:
        """Give nodes (each once) the labels that other processes have found for them, in place; volumes follow."""

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> Array:
        """The second-best label of every node of a side, -1 for none."""

    def clusters(self, problem: Problem, penalty: float, *, shared: bool = False) -> Clusters:
        """The clusters that are to merge; with `shared` one has a single row of the codebook, whomever it has as
        members.

        `ContractedClusters` merge over `contract`, `contract_again` and `best_partners`, on any backend.
        """

    def contract(self, problem: Problem, partition: Partition, *, shared: bool = False) -> ClusterGraph:
        """The graph of clusters of a partition whose labels are 0..K-1, each with at least one member.

        With `shared` a cluster has one row of the codebook, whomever it has as members.
        """

    def contract_again(
        self, clusters: ClusterGraph, relabel: Array, arrived: ArrivedRows | None = None
    ) -> ClusterGraph:
        """The graph of groups of clusters: cluster c becomes part of group `relabel[c]`; no group up to the last one is
        empty.

        With `arrived` the rows of `clusters` are those that this process holds, and the graph need not be symmetric:
        a group's row has what its clusters' rows here and those that arrived have.
        """

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        """For every cluster the merge that gains most."""

    def places(self, mask: Array, count: int) -> Array:
        """Where a mask is true, in ascending order; it is so at `count` places."""

    def to_host(self, array: Array) -> Any:
        """The array as a NumPy array."""


def read(backend: Any, *numbers: Any) -> list[int]:
    """Numbers that are int64 on the device, in one transfer."""
    values: list[int] = backend.to_host(backend.xp.array(numbers)).tolist()
    return values
