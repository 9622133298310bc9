"""Several processes as one backend: each works on its share of the edges by a backend of its own.

A rank owns users and items that are neighbors by number, with their edges (`GraphShare`). Labels, volumes and node
weights are on all ranks. Under a rank's own backend nodes of others have no edges, so that they keep their labels, and
what it finds for its own nodes is what one process finds. Then

- after a block has moved, every rank sends the nodes that moved and their labels, and all adopt them;
- a row of the graph of clusters lies on one rank. When the graph is made, each rank has a part of every row from its
  own edges, and sends these parts to the owners. In a round of merging, rows whose cluster becomes part of one of
  another rank go there; all others stay. Each rank finds the best partners of its own clusters, and all get to know;
- the rest is computed on every rank alike, from what all ranks have.

Sums are of integers, and each best label or partner is found by one rank from all that one process would see: labels
are the same, bit for bit, for any number of ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import (
    Array,
    ArrivedRows,
    Backend,
    ClusterGraph,
    NodeWeights,
    Partition,
    Partners,
    Problem,
    read,
)
from baco_gpu.clustering.backends.contracted import ContractedClusters
from baco_gpu.clustering.backends.pieces import places_of
from baco_gpu.clustering.backends.share import GraphShare
from baco_gpu.data.sources.dealing import cuts
from baco_gpu.ranks import Ranks

_SLOTS = 4096  # how finely the rows of clusters are weighed before they are dealt out
_ROW_COST = 4  # what a row costs beside its entries, in entries


class SharedProblem(Problem):
    """A rank's share of a problem: that of its own backend, whose sides it has, and what is known of all nodes."""

    own: Problem
    bounds: tuple[np.ndarray, np.ndarray]
    has_edges: tuple[Array, Array]

    def connected(self, side: int) -> Array:
        return self.has_edges[side]


class SharedClusters(ClusterGraph):
    """A rank's share of a graph of clusters: the rows from bounds[rank] to bounds[rank + 1] - 1; others are empty."""

    own: ClusterGraph
    bounds: np.ndarray


class DistributedBackend:
    """See `Backend`. `own` is the backend of this process, `ranks` are all processes; every rank makes every call."""

    def __init__(self, own: Backend, ranks: Ranks) -> None:
        self.own = own
        self.ranks = ranks

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def xp(self) -> Any:
        return self.own.xp

    def at_work(self) -> AbstractContextManager[None]:
        return self.own.at_work()

    def load(
        self, graph: GraphShare, weights: NodeWeights, *, merging: bool = True, contracting: bool = True
    ) -> SharedProblem:
        # Logarithms and roots may differ between libraries of mathematics.
        digest = hashlib.sha256(repr(weights[2:]).encode())
        for nodes in weights.nodes:
            digest.update(np.ascontiguousarray(nodes).data)
        self.ranks.agree(node_weights=digest.hexdigest())
        own = self.own.load(graph.own, weights, merging=merging, contracting=contracting)
        problem = SharedProblem(*own)
        problem.own, problem.bounds = own, graph.bounds
        users, items = (self.xp.asarray(degrees > 0) for degrees in (graph.user_degrees, graph.item_degrees))
        problem.has_edges = (users, items)
        return problem

    def volumes(self, problem: Any, labels: tuple[Array, Array], num_labels: int) -> tuple[Array, Array]:
        return self.own.volumes(problem.own, labels, num_labels)

    def weight_within(self, problem: Any, labels: tuple[Array, Array]) -> int:
        return int(self.ranks.table(self.own.weight_within(problem.own, labels)).sum())

    def blocks(self, problem: Any, side: int, stream: int, num_blocks: int) -> list[Any]:
        return self.own.blocks(problem.own, side, stream, num_blocks)

    def holding(
        self, partition: Partition, streams: tuple[int | None, int | None]
    ) -> AbstractContextManager[tuple[Array | None, Array | None]]:
        return self.own.holding(partition, streams)

    def move(
        self,
        problem: Any,
        partition: Partition,
        side: int,
        block: Any,
        penalty: float,
        anchors: Array | None,
        totals: Array,
    ) -> None:
        xp, labels = self.xp, partition.labels[side]
        here = self._here(problem.bounds[side])
        before, own_totals = labels[here].copy(), xp.zeros_like(totals)
        self.own.move(problem.own, partition, side, block, penalty, anchors, own_totals)
        changed = labels[here] != before
        count, *found = read(self.own, xp.count_nonzero(changed), own_totals[0], own_totals[1])
        nodes = self.own.places(changed, count) + here.start
        table = self.ranks.table(count, *found)
        moved = xp.stack([nodes.astype(labels.dtype), labels[nodes]], axis=1)
        arrived = self._all(moved, table[:, 0])
        arrived[self.ranks.rank] = moved[:0]
        others = xp.concatenate(arrived)
        if len(others):
            self.own.adopt(problem.own, partition, side, others[:, 0].astype(xp.int64), others[:, 1])
        totals += xp.asarray(table[:, 1:].sum(axis=0))

    def adopt(self, problem: Any, partition: Partition, side: int, nodes: Array, found: Array) -> None:
        self.own.adopt(problem.own, partition, side, nodes, found)

    def second_best(self, problem: Any, partition: Partition, side: int, penalty: float) -> Array:
        return self._whole(self.own.second_best(problem.own, partition, side, penalty), problem.bounds[side])

    def clusters(self, problem: Any, penalty: float, *, shared: bool = False) -> ContractedClusters:
        return ContractedClusters(self, problem, penalty, shared=shared)

    def contract(self, problem: Any, partition: Partition, *, shared: bool = False) -> SharedClusters:
        clusters = self.own.contract(problem.own, partition, shared=shared)
        if not clusters.num_clusters:
            return _shared(clusters, np.zeros(self.ranks.size + 1, np.int64))
        bounds = self._even_bounds(clusters.counts)
        relabel = self.xp.arange(clusters.num_clusters, dtype=clusters.neighbors.dtype)
        # All rows are sent, those of this rank to itself, so that the parts are let go before there are whole ones.
        arrived = self._exchanged(clusters, self._owners(relabel, bounds), clusters.counts > 0)
        clusters = clusters._replace(
            counts=self.xp.zeros_like(clusters.counts),
            neighbors=clusters.neighbors[:0].copy(),
            weights=clusters.weights[:0].copy(),
        )
        return _shared(self.own.contract_again(clusters, relabel, arrived), bounds)

    def contract_again(self, clusters: Any, relabel: Array, arrived: ArrivedRows | None = None) -> SharedClusters:
        # A group goes where the smallest of its clusters is, so that most rows stay.
        xp, bounds = self.xp, clusters.bounds
        seen, ends = xp.zeros(clusters.num_clusters, dtype=bool), []
        for first, last in pairwise(bounds):
            seen[relabel[first:last]] = True
            ends.append(xp.count_nonzero(seen))
        bounds = np.array([0, *read(self.own, *ends)])
        owners = self._owners(relabel, bounds)
        leaves = (clusters.counts > 0) & (owners != self.ranks.rank)
        found = self._exchanged(clusters, owners, leaves)
        kept = clusters.own._replace(counts=xp.where(leaves, 0, clusters.counts))
        return _shared(self.own.contract_again(kept, relabel, found), bounds)

    def best_partners(self, clusters: Any, penalty: float) -> Partners:
        cluster, gain = self.own.best_partners(clusters.own, penalty)
        ids = cluster.astype(clusters.neighbors.dtype)
        return Partners(self._whole(ids, clusters.bounds).astype(cluster.dtype), self._whole(gain, clusters.bounds))

    def places(self, mask: Array, count: int) -> Array:
        return self.own.places(mask, count)

    def to_host(self, array: Array) -> Any:
        return self.own.to_host(array)

    def _here(self, bounds: np.ndarray) -> slice:
        """What this rank has of what is cut at these bounds."""
        return slice(*bounds[self.ranks.rank : self.ranks.rank + 2].tolist())

    def _all(self, own: Array, counts: Iterable[int]) -> list[Array]:
        return [self.xp.asarray(part) for part in self.ranks.gather(own, [int(count) for count in counts])]

    def _whole(self, array: Array, bounds: np.ndarray) -> Array:
        """An array of which every rank has the true values between its bounds."""
        return self.xp.concatenate(self._all(array[self._here(bounds)], np.diff(bounds)))

    def _even_bounds(self, counts: Array) -> np.ndarray:
        """Where to cut clusters so that their rows, of which every rank has a part, cost about the same."""
        slots = np.linspace(0, len(counts), _SLOTS + 1).astype(np.int64)
        running = self.xp.concatenate([self.xp.zeros(1, dtype=counts.dtype), self.xp.cumsum(counts)])
        sums = np.diff(self.own.to_host(running[self.xp.asarray(slots)]))
        costs = self.ranks.table(*sums.tolist()).sum(axis=0) + _ROW_COST * np.diff(slots)
        return slots[cuts(costs, self.ranks.size)]

    def _owners(self, relabel: Array, bounds: np.ndarray) -> Array:
        """For every cluster the rank that owns its group."""
        xp = self.xp
        return xp.searchsorted(xp.asarray(bounds[1:]), relabel.astype(xp.int64), side="right")

    def _exchanged(self, clusters: ClusterGraph, owners: Array, leaves: Array) -> ArrivedRows:
        """Send the rows that leave to the owners of their groups; returns what other ranks have sent here."""
        xp = self.xp
        (num_leaving,) = read(self.own, xp.count_nonzero(leaves))
        ids = self.own.places(leaves, num_leaving)
        if num_leaving:
            ids = ids[xp.argsort(owners[ids], kind="stable")]
        counts = clusters.counts[ids]
        rows_to = self.own.to_host(xp.searchsorted(owners[ids], xp.arange(self.ranks.size + 1)))
        running = xp.concatenate([xp.zeros(1, dtype=xp.int64), xp.cumsum(counts)])
        entries_to = self.own.to_host(running[xp.asarray(rows_to)])
        places = places_of(self.own, clusters.rows[ids], counts)
        weights = clusters.weights[places]
        (greatest,) = read(self.own, weights.max()) if len(weights) else (0,)
        table = self.ranks.table(greatest, *np.diff(rows_to).tolist(), *np.diff(entries_to).tolist())
        num_rows, num_entries = np.hsplit(table[:, 1:], 2)
        # As bytes, of which most weights need but one: not all transports know all integers.
        kind = np.min_scalar_type(-int(table[:, 0].max()) - 1)
        octets = self.ranks.exchange(weights.astype(kind).view(np.uint8), num_entries * kind.itemsize)
        weights = xp.asarray(octets).view(kind).astype(xp.int64)
        neighbors = xp.asarray(self.ranks.exchange(clusters.neighbors[places], num_entries))
        heads = xp.stack([ids, counts], axis=1).astype(neighbors.dtype)
        heads = xp.asarray(self.ranks.exchange(heads, num_rows)).astype(xp.int64)
        ids, counts = heads[:, 0].copy(), heads[:, 1].copy()
        return ArrivedRows(ids, xp.cumsum(counts) - counts, counts, neighbors, weights)


def _shared(own: ClusterGraph, bounds: np.ndarray) -> SharedClusters:
    shared = SharedClusters(*own)
    shared.own, shared.bounds = own, bounds
    return shared
