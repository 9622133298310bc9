"""The CPU backend: the primitives over NumPy arrays, in compiled loops on all of Numba's threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np

from baco_gpu.clustering.backends import cpu_kernels as kernels
from baco_gpu.clustering.backends.backend import (
    ITEMS,
    USERS,
    ArrivedRows,
    ClusterGraph,
    NodeWeights,
    Partition,
    Partners,
    Problem,
    Side,
)
from baco_gpu.clustering.backends.cpu_clusters import CpuClusters
from baco_gpu.clustering.backends.cpu_merging import best_partners
from baco_gpu.clustering.backends.cpu_nodes import (
    add_member_costs,
    deal_nodes,
    find_anchors,
    group_by_label,
    move_volumes,
    sums_by_label,
    weight_within,
)
from baco_gpu.clustering.backends.cpu_tables import Tables, chunks_of, chunks_of_nodes, in_chunks
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

_EVERY_NODE = np.empty(0, np.int64)

_T = TypeVar("_T")


def backend_on(device: int | None) -> CpuBackend:
    """The backend; InputError for a number, for there is one CPU."""
    if device is not None:
        raise InputError(f"backend must have no number where it is the CPU, got {device}")
    return CpuBackend()


class CpuBackend:
    """See `Backend`. It holds no state but the memory of a table a thread."""

    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._tables = Tables()

    def at_work(self) -> AbstractContextManager[None]:
        return nullcontext()

    def load(
        self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True, contracting: bool = False
    ) -> Problem:
        host = graph.to("cpu")
        sides = tuple(
            Side(adjacency.offsets, adjacency.neighbors, edges, nodes)
            for adjacency, edges, nodes in zip((host.csr, host.csc), weights.edges, weights.nodes, strict=True)
        )
        return Problem((sides[USERS], sides[ITEMS]), host.num_users, host.num_items)

    def volumes(
        self, problem: Problem, labels: tuple[np.ndarray, np.ndarray], num_labels: int
    ) -> tuple[np.ndarray, np.ndarray]:
        users, items = (
            sums_by_label(side_labels, side.node_weights, num_labels)
            for side_labels, side in zip(labels, problem.sides, strict=True)
        )
        return users, items

    def weight_within(self, problem: Problem, labels: tuple[np.ndarray, np.ndarray]) -> int:
        users = problem.sides[USERS]
        chunks = chunks_of(np.diff(users.offsets))
        return sum(in_chunks(chunks, weight_within, *users[:3], labels[USERS], labels[ITEMS]))

    def blocks(self, problem: Problem, side: int, stream: int, num_blocks: int) -> list[np.ndarray]:
        block = np.empty(len(problem.sides[side].node_weights), np.uint8)
        deal_nodes(np.uint64(stream), num_blocks, block)
        return [np.flatnonzero(block == number) for number in range(num_blocks)]

    def holding(
        self, partition: Partition, streams: tuple[int | None, int | None]
    ) -> AbstractContextManager[tuple[np.ndarray | None, np.ndarray | None]]:
        users, items = (
            None if stream is None else _anchors(labels, stream, partition.num_labels)
            for labels, stream in zip(partition.labels, streams, strict=True)
        )
        return nullcontext((users, items))

    def move(
        self,
        problem: Problem,
        partition: Partition,
        side: int,
        nodes: np.ndarray,
        penalty: float,
        anchors: np.ndarray | None,
        totals: np.ndarray,
    ) -> None:
        labels = partition.labels[side]
        previous = np.empty_like(labels, shape=len(nodes))
        gained = self._visit(
            kernels.best_labels,
            problem,
            partition,
            side,
            nodes,
            (_EVERY_NODE if anchors is None else anchors, penalty, previous),
        )
        moved = move_volumes(nodes, previous, labels, problem.sides[side].node_weights, partition.volumes[side])
        totals += (sum(gained), moved)

    def adopt(self, problem: Problem, partition: Partition, side: int, nodes: np.ndarray, found: np.ndarray) -> None:
        labels = partition.labels[side]
        previous = labels[nodes]
        labels[nodes] = found
        move_volumes(nodes, previous, labels, problem.sides[side].node_weights, partition.volumes[side])

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> np.ndarray:
        labels = partition.labels[side]
        owned = np.zeros(partition.num_labels, np.bool_)
        owned[labels] = True
        second = np.empty_like(labels)
        self._visit(
            kernels.second_best_labels, problem, partition, side, np.arange(len(labels)), (owned, penalty, second)
        )
        return second

    def clusters(self, problem: Problem, penalty: float, *, shared: bool = False) -> CpuClusters:
        return CpuClusters(problem, penalty, self._tables, shared=shared)

    def contract(self, problem: Problem, partition: Partition, *, shared: bool = False) -> ClusterGraph:
        num_clusters = partition.num_labels
        users, items = (
            _members(partition.labels[k], num_clusters, side.offsets[:-1], side.offsets[1:], *side[1:3], labels)
            for k, (side, labels) in enumerate(zip(problem.sides, partition.labels[::-1], strict=True))
        )
        occupied = (np.diff(users.starts) > 0, np.diff(items.starts) > 0)
        if shared:
            occupied = (np.ones(num_clusters, np.bool_), np.zeros(num_clusters, np.bool_))
        return self._gather((users, items), num_clusters, partition.volumes, occupied)

    def contract_again(
        self, clusters: ClusterGraph, relabel: np.ndarray, arrived: ArrivedRows | None = None
    ) -> ClusterGraph:
        begins, counts, neighbors, weights = clusters[:4]
        num_clusters = int(relabel.max()) + 1
        members = _members(relabel, num_clusters, begins, begins + counts, neighbors, weights, relabel)
        more = members.none()
        if arrived is not None:
            ids, begins, counts, neighbors, weights = arrived
            more = _members(relabel[ids], num_clusters, begins, begins + counts, neighbors, weights, relabel)
        users, items = (sums_by_label(relabel, volumes, num_clusters) for volumes in clusters.volumes)
        occupied = []
        for before in clusters.occupied:
            after = np.zeros(num_clusters, np.bool_)
            after[relabel[before]] = True
            occupied.append(after)
        return self._gather((members, more), num_clusters, (users, items), (occupied[USERS], occupied[ITEMS]))

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        begins, counts, neighbors, weights, volumes = clusters[:5]
        # Side by side, so that both volumes of a neighbor come with one fetch.
        both = np.column_stack(volumes)
        partners = Partners(np.empty(len(counts), np.int64), np.empty(len(counts)))
        edges = (begins, counts, neighbors, weights)
        in_chunks(chunks_of(counts), best_partners, *edges, both, penalty, *partners)
        return partners

    def places(self, mask: np.ndarray, count: int) -> np.ndarray:
        return np.flatnonzero(mask)

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def _gather(
        self,
        kinds: tuple[kernels.Members, kernels.Members],
        num_clusters: int,
        volumes: tuple[np.ndarray, np.ndarray],
        occupied: tuple[np.ndarray, np.ndarray],
    ) -> ClusterGraph:
        """One row a cluster, from two kinds of members: users and items, or clusters and none."""
        room = np.zeros(num_clusters, np.int64)
        for kind in kinds:
            add_member_costs(room, *kind[:4])
        begins = np.cumsum(room) - room
        counts = np.zeros(num_clusters, np.int64)
        # Memory that is never written to is never taken: equal ids are summed, and most of the room stays free.
        neighbors = np.empty(room.sum(), kinds[0].relabel.dtype)
        sums = np.empty(room.sum(), np.int64)
        longest = int(room.max(initial=0))
        self._tables.sums(
            chunks_of(room),
            longest,
            num_clusters,
            neighbors.dtype,
            kinds[0].edge_weights,
            kernels.gather_rows,
            *(room, begins, counts, num_clusters, neighbors, sums, kinds),
        )
        codebook_rows = (int(np.count_nonzero(occupied[USERS])), int(np.count_nonzero(occupied[ITEMS])))
        return ClusterGraph(begins, counts, neighbors, sums, volumes, occupied, codebook_rows)

    def _visit(
        self,
        loop: Callable[..., _T],
        problem: Problem,
        partition: Partition,
        side: int,
        nodes: np.ndarray,
        arguments: tuple[object, ...],
    ) -> list[_T]:
        """What a loop that chooses labels for nodes of a side returns for each chunk of them."""
        here, ids = problem.sides[side], partition.labels[side].dtype
        chunks = chunks_of_nodes(nodes, here.offsets)
        others, volumes = partition.labels[1 - side], partition.volumes[1 - side]
        return self._tables.sums(
            *(chunks, len(others), partition.num_labels, ids, here.edge_weights),
            *(loop, nodes, *here, partition.labels[side], others, volumes, *arguments),
        )


def _anchors(labels: np.ndarray, stream: int, num_labels: int) -> np.ndarray:
    anchors = np.full(num_labels, -1)
    find_anchors(labels, np.uint64(stream), anchors, np.empty(num_labels, np.uint64))
    return anchors


def _members(labels: np.ndarray, num_clusters: int, *lists: np.ndarray | None) -> kernels.Members:
    """`Members` of the clusters that labels make; `lists` are its other fields."""
    members, starts = group_by_label(labels, num_clusters)
    return kernels.Members(members, starts, *lists)  # type: ignore[arg-type]
