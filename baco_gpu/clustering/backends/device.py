"""The primitives over the CUDA kernels, for an array module and a launcher that belong together.

Memory is known beforehand: `baco_gpu.cuda.plan` has `move_bytes`, `contraction_bytes` and, for a whole solve,
`solve_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

from baco_gpu.clustering.backends.backend import (
    ITEMS,
    USERS,
    Array,
    ClusterGraph,
    NodeWeights,
    Partition,
    Partners,
    Problem,
    Side,
)
from baco_gpu.clustering.backends.contraction import Contraction, DeviceProblem, flag, id_type
from baco_gpu.clustering.backends.pieces import Room
from baco_gpu.cuda.plan import (
    LISTS,
    SidePlan,
    SolveBytes,
    blocks_for,
    hub_tables,
    plan_merging,
    plan_side,
    shared_grid,
    solve_bytes,
)
from baco_gpu.graph.bipartite import BipartiteGraph


class Block(NamedTuple):
    """The nodes of a block, `nodes[range[0]:range[1]]`: how many they are, only the device knows."""

    nodes: Array | None  # int64, of every block of a side; None for all nodes in order
    range: Array  # int64, of shape (2,)


class DeviceBackend(Contraction):
    """See `Backend`. It holds no state: all arrays come from the array module's allocator, and go back to it."""

    def at_work(self) -> AbstractContextManager[None]:
        return nullcontext()

    def from_host(self, array: np.ndarray) -> Array:
        """A copy of an array on the device."""
        return self.xp.asarray(array)

    def load(
        self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True, contracting: bool = False
    ) -> DeviceProblem:
        return self.put(graph.to("cpu"), weights)

    def put(
        self, host: BipartiteGraph, weights: NodeWeights, room: Room | None = None, streamed: bool = False
    ) -> DeviceProblem:
        """Put a graph of the CPU on the device; `streamed`, its edges and their weights in the host memory of `room`.

        Kernels then read them there, over the bus, a block of nodes at a time and every list once a visit, a warp whole
        lines of it where lists are long. That is near what the bus can do (EMOGI, PVLDB 14(2), 2020), and needs no copy
        of the lists of a block, which lie all over the graph, since blocks are dealt anew in every sweep. Meanwhile the
        host holds the edges twice, as they were and pinned.
        """
        put = self.from_host

        def put_edges(array: Array | None) -> Array | None:
            if array is None:
                return None
            return room.kept(array).device if room is not None and streamed else put(array)

        users, items = (
            Side(put(adjacency.offsets), put_edges(adjacency.neighbors), put_edges(edges), put(nodes))
            for adjacency, edges, nodes in zip((host.csr, host.csc), weights.edges, weights.nodes, strict=True)
        )
        problem = DeviceProblem((users, items), host.num_users, host.num_items, streamed)
        problem.plans, problem.room = self._plans(host), room
        return problem

    def needs(
        self,
        graph: BipartiteGraph,
        weights: NodeWeights,
        *,
        merging: bool = True,
        contracting: bool = False,
        streamed: bool = False,
        piece: int | None = None,
    ) -> SolveBytes:
        """What solving a graph on the CPU takes on the device at most; nothing is put there to find out.

        See `solve_bytes` for `contracting`, `streamed` and `piece`.
        """
        id_bytes, weighted = graph.csr.neighbors.dtype.itemsize, weights.edges[0] is not None
        counts = [len(side.neighbors) for side in (graph.csr, graph.csc)]  # of a share, one has more
        nodes = graph.num_users + graph.num_items
        tables = [
            hub_tables(plan, nodes, id_bytes, self._launch.limits) for plan in self._plans(graph) if plan.longer[-1]
        ]
        return solve_bytes(
            graph.num_users,
            graph.num_items,
            max(counts),
            weighted=weighted,
            id_bytes=id_bytes,
            merging=merging,
            hub_tables_bytes=max((table.nbytes(id_bytes) for table in tables), default=0),
            merge_tables_bytes=plan_merging(sum(counts), nodes, id_bytes, weighted, self._launch.limits).nbytes(
                id_bytes
            ),
            contracting=contracting,
            streamed=streamed,
            piece=piece,
        )

    def _plans(self, host: BipartiteGraph) -> tuple[SidePlan, SidePlan]:
        users, items = (plan_side(np, side.offsets, self._launch.limits) for side in (host.csr, host.csc))
        return users, items

    def volumes(self, problem: Problem, labels: tuple[Array, Array], num_labels: int) -> tuple[Array, Array]:
        users, items = (
            self._sums(side_labels, side.node_weights, num_labels)
            for side_labels, side in zip(labels, problem.sides, strict=True)
        )
        return users, items

    def weight_within(self, problem: Problem, labels: tuple[Array, Array]) -> int:
        users = problem.sides[USERS]
        within = self.xp.zeros(1, dtype=self.xp.int64)
        self._launch(
            "weight_within",
            (id_type(users.neighbors), flag(users.edge_weights is not None)),
            self._warps_grid(-(-len(users.neighbors) // self._launch.limits.block_slots)),
            [*users[:3], problem.num_users, labels[USERS], labels[ITEMS], within],
        )
        return int(within[0])

    def blocks(self, problem: Problem, side: int, stream: int, num_blocks: int) -> list[Block]:
        xp, num_nodes = self.xp, len(problem.sides[side].node_weights)
        grid = self._threads_grid(num_nodes)
        block, nodes = xp.empty(num_nodes, dtype=xp.int32), xp.empty(num_nodes, dtype=xp.int64)
        bounds = xp.zeros(num_blocks + 1, dtype=xp.int64)
        self._launch("block_of_node", (), grid, [stream, num_nodes, num_blocks, block, bounds[1:]])
        bounds = xp.cumsum(bounds)
        self._launch("deal_nodes", (), grid, [block, num_nodes, num_blocks, bounds[:-1].copy(), nodes])
        return [Block(nodes, bounds[b : b + 2]) for b in range(num_blocks)]

    @contextmanager
    def holding(
        self, partition: Partition, streams: tuple[int | None, int | None]
    ) -> Iterator[tuple[Array | None, Array | None]]:
        if streams == (None, None):
            yield None, None
            return
        xp, labels, volumes, num_labels = self.xp, partition.labels, partition.volumes, partition.num_labels
        held = sum(1 << side for side, stream in enumerate(streams) if stream is not None)
        anchors = xp.empty((2, num_labels), dtype=xp.int64)
        smallest = xp.empty((2, num_labels), dtype=xp.uint64)
        by_label, by_node = self._threads_grid(2 * num_labels), self._threads_grid(sum(map(len, labels)))
        instance = (id_type(labels[USERS]),)
        nodes = [held, *map(len, labels), *(stream or 0 for stream in streams), *labels, num_labels, smallest]
        self._launch("begin_holding", (), by_label, [held, num_labels, smallest, anchors, *volumes])
        self._launch("smallest_hash", instance, by_node, nodes)
        self._launch("anchor_of_label", instance, by_node, [*nodes, anchors, *volumes])
        del smallest, nodes  # moves have the room
        users, items = (anchors[side] if held >> side & 1 else None for side in (USERS, ITEMS))
        yield users, items
        self._launch("end_holding", (), self._threads_grid(num_labels), [num_labels, *volumes])

    def move(
        self,
        problem: Problem,
        partition: Partition,
        side: int,
        block: Block,
        penalty: float,
        anchors: Array | None,
        totals: Array,
    ) -> None:
        if len(partition.labels[side]):
            prices = partition.volumes[1 - side]
            self._visit("MOVE", problem, partition, side, block, penalty, anchors, prices, None, totals)

    def adopt(self, problem: Problem, partition: Partition, side: int, nodes: Array, found: Array) -> None:
        labels = partition.labels[side]
        previous = labels[nodes]
        labels[nodes] = found
        self._launch(
            "move_volumes",
            (id_type(labels),),
            shared_grid(len(nodes), self._launch.limits.threads, self._launch.processors),
            [nodes, len(nodes), previous, labels, problem.sides[side].node_weights, partition.volumes[side]],
        )

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> Array:
        labels, xp = partition.labels[side], self.xp
        second = xp.empty(len(labels), dtype=labels.dtype)
        if len(labels):
            every = Block(None, len(labels) * xp.arange(2, dtype=xp.int64))
            volumes = partition.volumes[1 - side]
            marked = volumes | xp.iinfo(xp.int64).min  # the label of no node of the side is none to choose
            marked[labels] = volumes[labels]
            self._visit("SECOND", problem, partition, side, every, penalty, None, marked, second, None)
        return second

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        xp, size = self.xp, clusters.num_clusters
        partners = Partners(xp.empty(size, dtype=xp.int64), xp.empty(size, dtype=xp.float64))
        self._launch(
            "best_partners",
            (id_type(clusters.neighbors),),
            self._warps_grid(size),
            [
                *(clusters.rows, clusters.counts, size, clusters.neighbors, clusters.weights, *clusters.volumes),
                *(penalty, *partners),
            ],
        )
        return partners

    def _visit(
        self,
        task: str,
        problem: Problem,
        partition: Partition,
        side: int,
        block: Block,
        penalty: float,
        anchors: Array | None,
        prices: Array,
        output: Array | None,
        totals: Array | None,
    ) -> None:
        """Run the kernels of label_move.cu over a block of a side; `prices` are the volumes of the other one."""
        xp, limits, here = self.xp, self._launch.limits, problem.sides[side]
        labels, num_labels, processors = partition.labels[side], partition.num_labels, self._launch.processors
        instance = (id_type(labels), flag(here.edge_weights is not None), task)
        plan = problem.plans[side] if isinstance(problem, DeviceProblem) else plan_side(xp, here.offsets, limits)
        # Room and grids are for as many nodes as the whole side has; how many are in the block stays on the device.
        lists = [xp.empty(longer, dtype=labels.dtype) for longer in plan.longer]
        firsts, lengths = xp.empty(plan.longer[-1], dtype=xp.int64), xp.zeros(LISTS + 1, dtype=xp.int64)
        common = [*here, labels, partition.volumes[side], anchors, partition.labels[1 - side], prices]
        common += [penalty, output, totals, *lists, firsts, num_labels, lengths]
        self._launch("label_tiny", instance, shared_grid(len(labels), limits.threads, processors), [*block, *common])
        short, long, hubs = plan.longer
        if not any(plan.longer):
            return
        tables = hub_tables(plan, num_labels, labels.dtype.itemsize, limits)
        room = [xp.empty(tables.slots, dtype=labels.dtype), xp.empty(tables.slots, dtype=xp.int64)]
        grid = shared_grid(max(hubs, long, blocks_for(short, limits.warps)), 1, processors)
        for wave in range(tables.waves):
            arguments = [block.nodes, *common, limits.probes, *room, wave, tables.wave_slots]
            self._launch("label_long", instance, grid, arguments)
