"""The primitives over the CUDA kernels, for an array module and a launcher that belong together.

Memory is known beforehand: `baco_gpu.cuda.plan` has `move_bytes`, `contraction_bytes` and, for a whole solve,
`solve_bytes`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from baco_gpu.clustering.backends.base import (
    ITEMS,
    USERS,
    Array,
    ClusterGraph,
    Partition,
    Partners,
    Problem,
    Side,
    read,
)
from baco_gpu.clustering.weights import NodeWeights
from baco_gpu.cuda.launch import Launcher
from baco_gpu.cuda.plan import (
    LISTS,
    SidePlan,
    SolveBytes,
    blocks_for,
    hub_tables,
    plan_side,
    shared_grid,
    solve_bytes,
)
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

_NO_PAIR = (1 << 63) - 1
# Two ids of clusters are sorted as one int64.
_MOST_CLUSTERS = 3_037_000_499


class Block(NamedTuple):
    """The nodes of a block, `nodes[range[0]:range[1]]`: how many they are, only the device knows."""

    nodes: Array | None  # int64, of every block of a side; None for all nodes in order
    range: Array  # int64, of shape (2,)


class DeviceProblem(Problem):
    """A problem, and what its kernels will meet on each side."""

    plans: tuple[SidePlan, SidePlan]


class DeviceBackend:
    """See `Backend`. It holds no state: all arrays come from the array module's allocator, and go back to it."""

    def __init__(self, xp: Any, launch: Launcher, name: str = "cuda") -> None:
        self.name = name
        self.xp = xp
        self._launch = launch

    def load(self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True) -> DeviceProblem:
        put = self.xp.asarray
        host = graph.to("cpu")
        users, items = (
            Side(put(adjacency.offsets), put(adjacency.neighbors), None if edges is None else put(edges), put(nodes))
            for adjacency, edges, nodes in zip((host.csr, host.csc), weights.edges, weights.nodes, strict=True)
        )
        problem = DeviceProblem((users, items), host.num_users, host.num_items)
        problem.plans = self._plans(host)
        return problem

    def needs(self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True) -> SolveBytes:
        """What solving a graph on the CPU takes on the device at most; nothing is put there to find out."""
        id_bytes = graph.csr.neighbors.dtype.itemsize
        tables = [
            hub_tables(plan, graph.num_users + graph.num_items, id_bytes, self._launch.limits, self._launch.processors)
            for plan in self._plans(graph)
            if plan.longer[-1]
        ]
        return solve_bytes(
            graph.num_users,
            graph.num_items,
            graph.num_edges,
            weighted=weights.edges[0] is not None,
            id_bytes=id_bytes,
            merging=merging,
            hub_tables_bytes=max((table.nbytes(id_bytes) for table in tables), default=0),
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
            (_id(users.neighbors), _flag(users.edge_weights is not None)),
            self._warps_grid(problem.num_users),
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

    def anchors(self, partition: Partition, side: int, stream: int) -> Array:
        labels, xp = partition.labels[side], self.xp
        smallest = ~xp.zeros(partition.num_labels, dtype=xp.uint64)  # the greatest word
        anchors = xp.full(partition.num_labels, -1, dtype=xp.int64)
        grid = self._threads_grid(len(labels))
        self._launch("smallest_hash", (_id(labels),), grid, [labels, len(labels), stream, smallest])
        self._launch("anchor_of_label", (_id(labels),), grid, [labels, len(labels), stream, smallest, anchors])
        return anchors

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
        labels = partition.labels[side]
        if not len(labels):
            return
        previous = self.xp.empty(len(labels), dtype=labels.dtype)
        self._visit("MOVE", problem, partition, side, block, penalty, anchors, previous, totals[:1])
        self._launch(
            "move_volumes",
            (_id(labels),),
            shared_grid(len(labels), self._launch.limits.threads, self._launch.processors),
            [*block, previous, labels, problem.sides[side].node_weights, partition.volumes[side], totals[1:]],
        )

    def second_best(self, problem: Problem, partition: Partition, side: int, penalty: float) -> Array:
        labels, xp = partition.labels[side], self.xp
        owned = xp.full(partition.num_labels, -1, dtype=xp.int64)
        owned[labels] = 0
        second = xp.empty(len(labels), dtype=labels.dtype)
        if len(labels):
            every = Block(None, len(labels) * xp.arange(2, dtype=xp.int64))
            self._visit("SECOND", problem, partition, side, every, penalty, owned, second, None)
        return second

    def contract(self, problem: Problem, partition: Partition) -> ClusterGraph:
        users, labels, size = problem.sides[USERS], partition.labels, partition.num_labels
        rows = (users.offsets[:-1], users.offsets[1:])
        pairs = self._pairs(rows, users.neighbors, labels, size, symmetric=False)
        occupied = (self._marked(labels[USERS], size), self._marked(labels[ITEMS], size))
        kinds, sums, *held = self._summed(pairs, users.edge_weights, *map(self.xp.count_nonzero, occupied))
        return self._cluster_graph(kinds, sums, size, labels[USERS].dtype, partition.volumes, occupied, sum(held))

    def contract_again(self, clusters: ClusterGraph, relabel: Array) -> ClusterGraph:
        xp, begins, size = self.xp, clusters.rows, clusters.num_clusters
        rows = (begins, begins + clusters.counts)
        pairs = self._pairs(rows, clusters.neighbors, (relabel, relabel), size, symmetric=True)
        # How many groups there are comes to the host with other numbers; no more than there were clusters.
        users, items = (self._sums(relabel, volumes, size) for volumes in clusters.volumes)
        has_users, has_items = (self._sums(relabel, has.astype(xp.int64), size) > 0 for has in clusters.occupied)
        numbers = (relabel.max(), xp.count_nonzero(has_users), xp.count_nonzero(has_items))
        kinds, sums, last, *held = self._summed(pairs, clusters.weights, *numbers)
        here = slice(last + 1)
        volumes, occupied = (users[here], items[here]), (has_users[here], has_items[here])
        return self._cluster_graph(kinds, sums, size, relabel.dtype, volumes, occupied, sum(held))

    def best_partners(self, clusters: ClusterGraph, penalty: float) -> Partners:
        xp, size = self.xp, clusters.num_clusters
        partners = Partners(xp.empty(size, dtype=xp.int64), xp.empty(size, dtype=xp.float64))
        self._launch(
            "best_partners",
            (_id(clusters.neighbors),),
            self._warps_grid(size),
            [
                *(clusters.rows, clusters.counts, size, clusters.neighbors, clusters.weights, *clusters.volumes),
                *(penalty, *partners),
            ],
        )
        return partners

    def places(self, mask: Array, count: int) -> Array:
        # Every place goes where the true ones before it leave off, and the false ones beyond the end.
        xp = self.xp
        found = xp.empty(count + 1, dtype=xp.int64)
        found[xp.where(mask, xp.cumsum(mask) - 1, count)] = xp.arange(len(mask))
        return found[:count]

    def to_host(self, array: Array) -> Any:
        return array.get() if hasattr(array, "get") else array

    def _visit(
        self,
        task: str,
        problem: Problem,
        partition: Partition,
        side: int,
        block: Block,
        penalty: float,
        marks: Array | None,
        output: Array,
        gained: Array | None,
    ) -> None:
        """Run the four kernels of label_move.cu over a block of a side."""
        xp, limits, here = self.xp, self._launch.limits, problem.sides[side]
        labels = partition.labels[side]
        instance = (_id(labels), _flag(here.edge_weights is not None), task)
        plan = problem.plans[side] if isinstance(problem, DeviceProblem) else plan_side(xp, here.offsets, limits)
        # Room and grids are for as many nodes as the whole side has; how many are in the block stays on the device.
        lists = [xp.empty(longer, dtype=labels.dtype) for longer in plan.longer]
        lengths = xp.zeros(LISTS, dtype=xp.int64)
        common = [*here, labels, marks, partition.labels[1 - side], partition.volumes[1 - side], penalty]
        common += [output, gained]
        grid = shared_grid(len(labels), limits.threads, self._launch.processors)
        self._launch("label_tiny", instance, grid, [*block, *common, *lists, lengths])
        for number, kernel in enumerate(("label_warp", "label_block", "label_hub")):
            expected = plan.longer[number]
            if not expected:
                continue
            found = [lists[number], lengths[number : number + 1]]
            if kernel != "label_hub":
                per_block = limits.warps if kernel == "label_warp" else 1
                grid = shared_grid(expected, per_block, self._launch.processors)
                self._launch(kernel, instance, grid, [block.nodes, *common, *found])
                continue
            tables = hub_tables(plan, partition.num_labels, labels.dtype.itemsize, limits, self._launch.processors)
            size = tables.blocks * tables.slots
            room = [xp.empty(size, dtype=labels.dtype), xp.empty(size, dtype=xp.int64), tables.slots]
            more = [partition.num_labels, limits.probes, *room]
            self._launch(kernel, instance, tables.blocks, [block.nodes, *common, *found, *more])

    def _sums(self, labels: Array, values: Array, num_labels: int) -> Array:
        sums = self.xp.zeros(num_labels, dtype=self.xp.int64)
        grid = self._threads_grid(len(labels))
        self._launch("sums_by_label", (_id(labels),), grid, [labels, values, len(labels), sums])
        return sums

    def _marked(self, labels: Array, num_labels: int) -> Array:
        marked = self.xp.zeros(num_labels, dtype=bool)
        marked[labels] = True
        return marked

    def _pairs(
        self,
        rows: tuple[Array, Array],
        neighbors: Array,
        labels: tuple[Array, Array],
        num_clusters: int,
        symmetric: bool,
    ) -> Array:
        """For every place the pair of clusters that its edge joins, as one number; `_NO_PAIR` for none."""
        if num_clusters > _MOST_CLUSTERS:
            raise InputError(f"the graph of clusters must have at most {_MOST_CLUSTERS} clusters, got {num_clusters}")
        pairs = self.xp.full(len(neighbors), _NO_PAIR, dtype=self.xp.int64)
        begins, ends = rows
        self._launch(
            "pairs_of_edges",
            (_id(neighbors), _flag(symmetric)),
            self._warps_grid(len(begins)),
            [begins, ends, len(begins), neighbors, *labels, num_clusters, pairs],
        )
        return pairs

    def _summed(self, pairs: Array, weights: Array | None, *numbers: Array) -> tuple[Any, ...]:
        """Every pair once, the summed weights of its edges, and numbers that the host is to have."""
        xp = self.xp
        joined = pairs != _NO_PAIR
        num_joined, *values = read(self, xp.count_nonzero(joined), *numbers)
        joined = self.places(joined, num_joined)
        pairs = pairs[joined]
        # Sums as differences of running sums: exact, and any sum of weights is below 2**52.
        if weights is None:
            pairs = xp.sort(pairs) if num_joined else pairs
            running = xp.arange(num_joined + 1, dtype=xp.int64)
        else:
            order = self._order(pairs)
            pairs = pairs[order]
            running = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(weights[joined][order])])
        begins = pairs != xp.concatenate([xp.full(1, -1, dtype=xp.int64), pairs[:-1]])
        (num_kinds,) = read(self, xp.count_nonzero(begins))
        starts = self.places(begins, num_kinds)
        ends = xp.concatenate([starts[1:], xp.full(1, num_joined, dtype=xp.int64)])[:num_kinds]
        return pairs[starts], running[ends] - running[starts], *values

    def _cluster_graph(
        self,
        kinds: Array,
        sums: Array,
        size: int,
        dtype: Any,
        volumes: tuple[Array, Array],
        occupied: tuple[Array, Array],
        codebook_rows: int,
    ) -> ClusterGraph:
        """List each kind of pair, numbered with `size`, from both ends."""
        xp, size = self.xp, max(size, 1)
        row = xp.concatenate([kinds // size, kinds % size])
        neighbor = xp.concatenate([kinds % size, kinds // size]).astype(dtype)
        order = self._order(row)
        counts = self._sums(row.astype(dtype), xp.ones(len(row), dtype=xp.int64), len(volumes[USERS]))
        weights = xp.concatenate([sums, sums])[order]
        begins = xp.cumsum(counts) - counts
        return ClusterGraph(begins, counts, neighbor[order], weights, volumes, occupied, codebook_rows)

    def _order(self, keys: Array) -> Array:
        return self.xp.argsort(keys) if len(keys) else self.xp.arange(0)

    def _threads_grid(self, count: int) -> int:
        return blocks_for(count, self._launch.limits.threads)

    def _warps_grid(self, count: int) -> int:
        return shared_grid(count, self._launch.limits.warps, self._launch.processors)


def _id(array: Array) -> str:
    """The C++ type of ids, for an array of labels or neighbours."""
    return "int" if array.dtype.itemsize == 4 else "long long"


def _flag(value: bool) -> str:
    return "true" if value else "false"
