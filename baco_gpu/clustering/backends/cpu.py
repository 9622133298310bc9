"""The CPU backend: the primitives over NumPy arrays, in compiled loops on all of Numba's threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
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
from baco_gpu.clustering.backends.cpu_nodes import (
    add_member_costs,
    anchors_of_labels,
    blocks_of_nodes,
    chunk_bounds,
    group_by_label,
    move_volumes,
    sums_by_label,
)
from baco_gpu.clustering.backends.cpu_threads import check_threads, threads
from baco_gpu.errors import is_interrupt
from baco_gpu.graph.bipartite import BipartiteGraph

# What visiting a node costs beside its edges, in edges; and how many edges are worth a second thread.
_NODE_COST = 4
_PARALLEL_COST = 20_000

_EVERY_NODE = np.empty(0, np.int64)


class CpuBackend:
    """See `Backend`. It holds no state but the memory of a hash table a thread, as large as the longest list needs."""

    name = "cpu"
    xp = np

    def __init__(self) -> None:
        check_threads()
        self._table = _table(0, 0, np.dtype(np.int32))

    def load(self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True) -> Problem:
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
        with _chunks(np.diff(users.offsets)) as bounds:
            return int(kernels.weight_within(bounds, *users[:3], labels[USERS], labels[ITEMS]))

    def blocks(self, problem: Problem, side: int, stream: int, num_blocks: int) -> list[np.ndarray]:
        num_nodes = len(problem.sides[side].node_weights)
        order, starts = blocks_of_nodes(num_nodes, np.uint64(stream), num_blocks)
        return [order[starts[b] : starts[b + 1]] for b in range(num_blocks)]

    def anchors(self, partition: Partition, side: int, stream: int) -> np.ndarray:
        return anchors_of_labels(partition.labels[side], partition.num_labels, np.uint64(stream))

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
        here, labels = problem.sides[side], partition.labels[side]
        lengths = here.offsets[nodes + 1] - here.offsets[nodes]
        with _chunks(lengths) as bounds:
            previous, gained = kernels.best_labels(
                nodes,
                bounds,
                *here,
                labels,
                _EVERY_NODE if anchors is None else anchors,
                partition.labels[1 - side],
                partition.volumes[1 - side],
                penalty,
                *self._tables(bounds, lengths, partition.num_labels, labels.dtype),
            )
        moved = move_volumes(nodes, previous, labels, here.node_weights, partition.volumes[side])
        totals += (gained, moved)

    def adopt(self, problem: Problem, partition: Partition, side: int, nodes: np.ndarray, found: np.ndarray) -> None:
        labels = partition.labels[side]
        previous = labels[nodes]
        labels[nodes] = found
        move_volumes(nodes, previous, labels, problem.sides[side].node_weights, partition.volumes[side])

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> np.ndarray:
        here, labels = problem.sides[side], partition.labels[side]
        owned = np.zeros(partition.num_labels, np.bool_)
        owned[labels] = True
        lengths = np.diff(here.offsets)
        with _chunks(lengths) as bounds:
            return kernels.second_best_labels(
                bounds,
                *here,
                labels,
                owned,
                partition.labels[1 - side],
                partition.volumes[1 - side],
                penalty,
                *self._tables(bounds, lengths, partition.num_labels, labels.dtype),
            )

    def contract(self, problem: Problem, partition: Partition, *, shared: bool = False) -> ClusterGraph:
        num_clusters = partition.num_labels
        users, items = (
            kernels.Members(
                group_by_label(partition.labels[k], num_clusters),
                side.offsets[:-1],
                side.offsets[1:],
                side.neighbors,
                side.edge_weights,
                partition.labels[1 - k],
            )
            for k, side in enumerate(problem.sides)
        )
        occupied = (np.diff(users.group[1]) > 0, np.diff(items.group[1]) > 0)
        if shared:
            occupied = (np.ones(num_clusters, np.bool_), np.zeros(num_clusters, np.bool_))
        return self._gather((users, items), num_clusters, partition.volumes, occupied)

    def contract_again(
        self, clusters: ClusterGraph, relabel: np.ndarray, arrived: ArrivedRows | None = None
    ) -> ClusterGraph:
        begins, counts, neighbors, weights = clusters[:4]
        num_clusters = int(relabel.max()) + 1
        group = group_by_label(relabel, num_clusters)
        members = kernels.Members(group, begins, begins + counts, neighbors, weights, relabel)
        more = members.none()
        if arrived is not None:
            ids, begins, counts, neighbors, weights = arrived
            group = group_by_label(relabel[ids], num_clusters)
            more = kernels.Members(group, begins, begins + counts, neighbors, weights, relabel)
        users, items = (sums_by_label(relabel, volumes, num_clusters) for volumes in clusters.volumes)
        occupied = []
        for before in clusters.occupied:
            after = np.zeros(num_clusters, np.bool_)
            after[relabel[before]] = True
            occupied.append(after)
        return self._gather((members, more), num_clusters, (users, items), (occupied[USERS], occupied[ITEMS]))

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        begins, counts, neighbors, weights, volumes = clusters[:5]
        with _chunks(counts) as bounds:
            # Side by side, so that both volumes of a neighbor come with one fetch.
            both = np.column_stack(volumes)
            return Partners(*kernels.best_partners(bounds, begins, counts, neighbors, weights, both, penalty))

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
            add_member_costs(room, *kind.group, kind.first, kind.last)
        begins = np.cumsum(room) - room
        counts = np.zeros(num_clusters, np.int64)
        dtype = kinds[0].relabel.dtype
        # Memory that is never written to is never taken: equal ids are summed, and most of the room stays free.
        neighbors = np.empty(room.sum(), dtype)
        sums = np.empty(room.sum(), np.int64)
        with _chunks(room) as bounds:
            table = self._tables(bounds, room, num_clusters, dtype)
            kernels.gather_rows(bounds, begins, counts, num_clusters, neighbors, sums, *table, *kinds[0], *kinds[1])
        held = (int(np.count_nonzero(occupied[USERS])), int(np.count_nonzero(occupied[ITEMS])))
        return ClusterGraph(begins, counts, neighbors, sums, volumes, occupied, held)

    def _tables(
        self, bounds: np.ndarray, lengths: np.ndarray, num_labels: int, dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`keys`, `totals` and `used` of an empty hash table a chunk, for lists of these lengths."""
        distinct = min(int(lengths.max(initial=0)), num_labels)
        keys, totals, used = self._table
        if len(keys) < len(bounds) - 1 or used.shape[1] <= distinct or keys.dtype != dtype:
            self._table = keys, totals, used = _table(len(bounds) - 1, distinct, dtype)
        return keys, totals, used


def _table(chunks: int, distinct: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num_slots = max(4, 1 << (2 * distinct - 1).bit_length())
    return (
        np.full((chunks, num_slots), -1, dtype),
        np.zeros((chunks, num_slots), np.int64),
        np.empty((chunks, distinct + 1), np.uint64),  # one more, to write the slot of a label that is not new
    )


@contextmanager
def _chunks(costs: np.ndarray) -> Iterator[np.ndarray]:
    """Bounds of one chunk of about equal cost a thread, with Numba set to as many threads for the block.

    Work that is done before a second thread has woken up gets one chunk.
    """
    allowed = numba.get_num_threads()
    used = allowed if costs.sum() + _NODE_COST * len(costs) >= _PARALLEL_COST else 1
    try:
        with threads(used):
            yield chunk_bounds(costs + _NODE_COST, used)
    except SystemError as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from None
        raise
