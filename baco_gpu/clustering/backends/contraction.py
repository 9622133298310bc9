"""The graph of clusters on a device: the pairs of clusters that edges join are sorted, and equal ones added up.

All edges at once where the device has room for that, or a piece of them at a time, as in
`baco_gpu.clustering.backends.pieces`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from baco_gpu.clustering.backends.backend import (
    ITEMS,
    USERS,
    Array,
    ArrivedRows,
    ClusterGraph,
    Partition,
    Problem,
    read,
)
from baco_gpu.clustering.backends.device_clusters import DeviceClusters
from baco_gpu.clustering.backends.pieces import ClusterRows, PairSums, Room, both_ways, pieces_of, places_of, rows_of
from baco_gpu.cuda.launch import Launcher
from baco_gpu.cuda.plan import SidePlan, blocks_for, shared_grid
from baco_gpu.errors import InputError

_NO_PAIR = (1 << 63) - 1
# Two ids of clusters are sorted as one int64.
_MOST_CLUSTERS = 3_037_000_499


class DeviceProblem(Problem):
    """A problem, what its kernels will meet on each side, what its contraction may take (None for all it needs), and
    how many bytes a solve of it was planned to take at most (None where nobody asked)."""

    plans: tuple[SidePlan, SidePlan]
    room: Room | None = None
    planned: int | None = None


class DeviceClusterGraph(ClusterGraph):
    """A graph of clusters, and what its contraction may take (None for all it needs)."""

    room: Room | None = None


class _Edges(NamedTuple):
    """Rows of neighbors, and the cluster of every row and of every neighbor."""

    rows: tuple[Array, Array]  # where each begins and ends, ascending
    neighbors: Array
    weights: Array | None
    clusters: tuple[Array, Array]
    symmetric: bool  # every edge is there twice


class Contraction:
    """The part of `DeviceBackend` that makes graphs of clusters, and what all its parts stand on."""

    def __init__(self, xp: Any, launch: Launcher, name: str = "cuda") -> None:
        self.name = name
        self.xp = xp
        self._launch = launch

    def clusters(self, problem: Problem, penalty: float, *, shared: bool = False) -> DeviceClusters:
        return DeviceClusters(self, problem, penalty, shared=shared)

    def contract(self, problem: Problem, partition: Partition, *, shared: bool = False) -> ClusterGraph:
        users, labels, size = problem.sides[USERS], partition.labels, partition.num_labels
        edges = _Edges((users.offsets[:-1], users.offsets[1:]), users.neighbors, users.edge_weights, labels, False)
        if shared:
            occupied = (self.xp.ones(size, dtype=bool), self.xp.zeros(size, dtype=bool))
        else:
            occupied = (self._marked(labels[USERS], size), self._marked(labels[ITEMS], size))
        room = problem.room if isinstance(problem, DeviceProblem) else None
        rows, *held = self._rows(edges, size, room, *map(self.xp.count_nonzero, occupied))
        return _clusters(rows, partition.volumes, occupied, (held[USERS], held[ITEMS]), room)

    def contract_again(
        self, clusters: ClusterGraph, relabel: Array, arrived: ArrivedRows | None = None
    ) -> ClusterGraph:
        xp, size = self.xp, clusters.num_clusters
        ends = clusters.rows + clusters.counts
        edges = _Edges((clusters.rows, ends), clusters.neighbors, clusters.weights, (relabel, relabel), True)
        # How many groups there are comes to the host with other numbers; no more than there were clusters.
        users, items = (self._sums(relabel, volumes, size) for volumes in clusters.volumes)
        has_users, has_items = (self._sums(relabel, has.astype(xp.int64), size) > 0 for has in clusters.occupied)
        numbers = (relabel.max().astype(xp.int64), xp.count_nonzero(has_users), xp.count_nonzero(has_items))
        room = clusters.room if isinstance(clusters, DeviceClusterGraph) else None
        if arrived is None:
            rows, last, *held = self._rows(edges, size, room, *numbers)
        else:
            rows, last, *held = self._joined(clusters, relabel, arrived, *numbers)
        here = slice(last + 1)
        rows = rows._replace(begins=rows.begins[here], counts=rows.counts[here])
        return _clusters(
            rows, (users[here], items[here]), (has_users[here], has_items[here]), (held[USERS], held[ITEMS]), room
        )

    def places(self, mask: Array, count: int) -> Array:
        # Every place goes where the true ones before it leave off, and the false ones beyond the end.
        xp = self.xp
        found = xp.empty(count + 1, dtype=xp.int64)
        found[xp.where(mask, xp.cumsum(mask) - 1, count)] = xp.arange(len(mask))
        return found[:count]

    def to_host(self, array: Array) -> Any:
        return array.get() if hasattr(array, "get") else array

    def _rows(self, edges: _Edges, size: int, room: Room | None, *numbers: Array) -> tuple[Any, ...]:
        """The rows of clusters 0 .. size - 1, and numbers that the host is to have."""
        dtype = edges.neighbors.dtype
        if room is None:
            kinds, sums, *values = self._summed(self._pairs(edges, size), edges.weights, *numbers)
            return rows_of(self.xp, *both_ways(self.xp, kinds, sums, size), size, dtype), *values
        values = read(self, *numbers)
        sums = PairSums(self.xp, self._summed, size, room)
        for places, here, bounds in pieces_of(self.xp, edges.rows, len(edges.neighbors), room.edges):
            weights = None if edges.weights is None else edges.weights[places]
            clusters = (edges.clusters[0][here], edges.clusters[1])
            piece = _Edges(bounds, edges.neighbors[places], weights, clusters, edges.symmetric)
            sums.add(self._pairs(piece, size), weights)
        return sums.rows(dtype), *values

    def _joined(self, clusters: ClusterGraph, relabel: Array, arrived: ArrivedRows, *numbers: Array) -> tuple[Any, ...]:
        """The rows of groups from the rows here and those that arrived, and numbers that the host is to have."""
        xp, size = self.xp, clusters.num_clusters
        _check_clusters(size)
        kept = ArrivedRows(xp.arange(size), *clusters[:4])
        keys, weights = [], []
        for ids, begins, counts, neighbors, sums in (kept, arrived):
            places = places_of(self, begins, counts)
            # Every entry's row: that many times as it has entries.
            ends = xp.cumsum(counts)
            rows = xp.searchsorted(ends, xp.arange(len(places)), side="right")
            pair = relabel[ids][rows].astype(xp.int64), relabel[neighbors[places]]
            keys.append(xp.where(pair[0] == pair[1], _NO_PAIR, pair[0] * size + pair[1]))
            weights.append(sums[places])
        kinds, sums, *values = self._summed(xp.concatenate(keys), xp.concatenate(weights), *numbers)
        return rows_of(xp, kinds, sums, size, clusters.neighbors.dtype), *values

    def _pairs(self, edges: _Edges, num_clusters: int) -> Array:
        """For every place the clusters a < b that its edge joins, as a * num_clusters + b; `_NO_PAIR` for none."""
        _check_clusters(num_clusters)
        pairs = self.xp.full(len(edges.neighbors), _NO_PAIR, dtype=self.xp.int64)
        begins, ends = edges.rows
        self._launch(
            "pairs_of_edges",
            (id_type(edges.neighbors), flag(edges.symmetric)),
            self._warps_grid(len(begins)),
            [begins, ends, len(begins), edges.neighbors, *edges.clusters, num_clusters, pairs],
        )
        return pairs

    def _summed(self, pairs: Array, weights: Array | None, *numbers: Array) -> tuple[Any, ...]:
        """Every pair once, in order, the summed weights of its edges, and numbers that the host is to have."""
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
            order = xp.argsort(pairs) if num_joined else joined
            pairs = pairs[order]
            running = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(weights[joined][order])])
        begins = pairs != xp.concatenate([xp.full(1, -1, dtype=xp.int64), pairs[:-1]])
        (num_kinds,) = read(self, xp.count_nonzero(begins))
        starts = self.places(begins, num_kinds)
        ends = xp.concatenate([starts[1:], xp.full(1, num_joined, dtype=xp.int64)])[:num_kinds]
        return pairs[starts], running[ends] - running[starts], *values

    def _sums(self, labels: Array, values: Array, num_labels: int) -> Array:
        sums = self.xp.zeros(num_labels, dtype=self.xp.int64)
        grid = self._threads_grid(len(labels))
        self._launch("sums_by_label", (id_type(labels),), grid, [labels, values, len(labels), sums])
        return sums

    def _marked(self, labels: Array, num_labels: int) -> Array:
        marked = self.xp.zeros(num_labels, dtype=bool)
        marked[labels] = True
        return marked

    def _threads_grid(self, count: int) -> int:
        return blocks_for(count, self._launch.limits.threads)

    def _warps_grid(self, count: int) -> int:
        return shared_grid(count, self._launch.limits.warps, self._launch.processors)


def _check_clusters(num_clusters: int) -> None:
    if num_clusters > _MOST_CLUSTERS:
        raise InputError(f"the graph of clusters must have at most {_MOST_CLUSTERS} clusters, got {num_clusters}")


def _clusters(
    rows: ClusterRows,
    volumes: tuple[Array, Array],
    occupied: tuple[Array, Array],
    codebook_rows: tuple[int, int],
    room: Room | None,
) -> DeviceClusterGraph:
    clusters = DeviceClusterGraph(*rows, volumes, occupied, codebook_rows)
    clusters.room = room
    return clusters


def id_type(array: Array) -> str:
    """The C++ type of ids, for an array of labels or neighbors."""
    return "int" if array.dtype.itemsize == 4 else "long long"


def flag(value: bool) -> str:
    return "true" if value else "false"
