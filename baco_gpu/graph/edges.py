"""The edges of a graph as pairs, a piece at a time: no array of all users' ids is ever made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from baco_gpu.graph.bipartite import BipartiteGraph

CHUNK = 1 << 22


def edge_chunks(graph: BipartiteGraph, size: int = CHUNK) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield (users, items, weights) of at most `size` edges each, by user and item, on the host.

    Users are int64, items of the graph's integer dtype; weights are float64, or None for a graph without weights.
    """
    csr = graph.to("cpu").csr
    for start in range(0, graph.num_edges, size):
        stop = min(start + size, graph.num_edges)
        first = int(np.searchsorted(csr.offsets, start, side="right")) - 1
        last = int(np.searchsorted(csr.offsets, stop, side="left"))
        counts = np.diff(np.clip(csr.offsets[first : last + 1], start, stop))
        weights = None if csr.weights is None else csr.weights[start:stop]
        yield np.repeat(np.arange(first, last), counts), csr.neighbors[start:stop], weights
