"""The CPU backend: the primitives over NumPy arrays, in compiled loops on all of Numba's threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np

from baco_gpu.clustering.backends import cpu_kernels as kernels
from baco_gpu.clustering.backends.base import ITEMS, USERS, ClusterGraph, Partition, Partners, Problem, Side
from baco_gpu.clustering.weights import NodeWeights
from baco_gpu.graph.bipartite import BipartiteGraph

# What visiting a node costs beside its edges, in edges; and how many edges are worth a second thread.
_NODE_COST = 4
_PARALLEL_COST = 20_000

_EVERY_NODE = np.empty(0, np.int64)


class CpuBackend:
    """See `Backend`. It holds no state but scratch memory: threads x labels x 8 bytes, grown as needed."""

    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._scratch = np.zeros((0, 0), np.int64)

    def load(self, graph: BipartiteGraph, weights: NodeWeights) -> Problem:
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
            kernels.sums_by_label(side_labels, side.node_weights, num_labels)
            for side_labels, side in zip(labels, problem.sides, strict=True)
        )
        return users, items

    def weight_within(self, problem: Problem, labels: tuple[np.ndarray, np.ndarray]) -> int:
        users = problem.sides[USERS]
        with _chunks(np.diff(users.offsets)) as bounds:
            return int(kernels.weight_within(bounds, *users[:3], labels[USERS], labels[ITEMS]))

    def blocks(self, problem: Problem, side: int, stream: int, num_blocks: int) -> list[np.ndarray]:
        num_nodes = len(problem.sides[side].node_weights)
        order, starts = kernels.blocks_of_nodes(num_nodes, np.uint64(stream), num_blocks)
        return [order[starts[b] : starts[b + 1]] for b in range(num_blocks)]

    def anchors(self, partition: Partition, side: int, stream: int) -> np.ndarray:
        return kernels.anchors_of_labels(partition.labels[side], partition.num_labels, np.uint64(stream))

    def move(
        self,
        problem: Problem,
        partition: Partition,
        side: int,
        nodes: np.ndarray,
        penalty: float,
        anchors: np.ndarray | None,
    ) -> int:
        here, labels = problem.sides[side], partition.labels[side]
        with _chunks(here.offsets[nodes + 1] - here.offsets[nodes]) as bounds:
            previous, gained = kernels.best_labels(
                nodes,
                bounds,
                *here,
                labels,
                _EVERY_NODE if anchors is None else anchors,
                partition.labels[1 - side],
                partition.volumes[1 - side],
                penalty,
                self._zeros(len(bounds) - 1, partition.num_labels),
            )
        partition.within += int(gained)
        return int(kernels.move_volumes(nodes, previous, labels, here.node_weights, partition.volumes[side]))

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> np.ndarray:
        here, labels = problem.sides[side], partition.labels[side]
        owned = np.zeros(partition.num_labels, np.bool_)
        owned[labels] = True
        with _chunks(np.diff(here.offsets)) as bounds:
            return kernels.second_best_labels(
                bounds,
                *here,
                labels,
                owned,
                partition.labels[1 - side],
                partition.volumes[1 - side],
                penalty,
                self._zeros(len(bounds) - 1, partition.num_labels),
            )

    def contract(self, problem: Problem, partition: Partition) -> ClusterGraph:
        num_clusters = partition.num_labels
        groups = [kernels.group_by_label(labels, num_clusters) for labels in partition.labels]
        lists = [(side.offsets[:-1], side.offsets[1:], side.neighbors, side.edge_weights) for side in problem.sides]
        relabels = (partition.labels[ITEMS], partition.labels[USERS])
        occupied = tuple(np.diff(starts) > 0 for _, starts in groups)
        return self._gather(groups, lists, relabels, num_clusters, partition.volumes, (occupied[0], occupied[1]))

    def contract_again(self, clusters: ClusterGraph, relabel: np.ndarray, num_clusters: int) -> ClusterGraph:
        group = kernels.group_by_label(relabel, num_clusters)
        lists = (clusters.rows[:-1], clusters.rows[:-1] + clusters.counts, clusters.neighbors, clusters.weights)
        users, items = (kernels.sums_by_label(relabel, volumes, num_clusters) for volumes in clusters.volumes)
        occupied = []
        for before in clusters.occupied:
            after = np.zeros(num_clusters, np.bool_)
            after[relabel[before]] = True
            occupied.append(after)
        return self._gather([group], [lists], (relabel,), num_clusters, (users, items), (occupied[0], occupied[1]))

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        rows, counts, neighbors, weights, (users, items), _ = clusters
        with _chunks(counts) as bounds:
            return Partners(*kernels.best_partners(bounds, rows, counts, neighbors, weights, users, items, penalty))

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def _gather(self, groups, lists, relabels, num_clusters, volumes, occupied) -> ClusterGraph:  # type: ignore[no-untyped-def]
        """One row a cluster, from one or two kinds of members (users and items, or clusters)."""
        room = np.zeros(num_clusters, np.int64)
        for (members, starts), (first, last, _, _) in zip(groups, lists, strict=True):
            kernels.add_member_costs(room, members, starts, first, last)
        rows = np.concatenate(([0], np.cumsum(room)))
        counts = np.zeros(num_clusters, np.int64)
        neighbors = np.empty(rows[-1], relabels[0].dtype)
        sums = np.empty(rows[-1], np.int64)
        with _chunks(room) as bounds:
            scratch = self._zeros(len(bounds) - 1, num_clusters)
            for (members, starts), member_lists, relabel in zip(groups, lists, relabels, strict=True):
                kernels.gather_rows(
                    bounds, rows, counts, members, starts, *member_lists, relabel, neighbors, sums, scratch
                )
        return ClusterGraph(rows, counts, neighbors, sums, volumes, occupied)

    def _zeros(self, chunks: int, num_labels: int) -> np.ndarray:
        if self._scratch.shape[0] < chunks or self._scratch.shape[1] < num_labels:
            self._scratch = np.zeros((chunks, num_labels), np.int64)
        return self._scratch


@contextmanager
def _chunks(costs: np.ndarray) -> Iterator[np.ndarray]:
    """Bounds of one chunk of about equal cost a thread, with Numba set to as many threads for the block.

    Work that is done before a second thread has woken up gets one chunk.
    """
    allowed = numba.get_num_threads()
    used = allowed if costs.sum() + _NODE_COST * len(costs) >= _PARALLEL_COST else 1
    numba.set_num_threads(used)
    try:
        yield kernels.chunk_bounds(costs + _NODE_COST, used)
    except SystemError as error:
        # Ctrl-C in a compiled loop: the loop ends as it should, and Numba wraps the interrupt on its way out.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        numba.set_num_threads(allowed)
