"""infomap: the partition that describes a random walk in the fewest bits (Rosvall and Bergstrom, PNAS 105, 2008)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package


def infomap_communities(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[int], Sides]:
    """Two-level infomap on the bipartite graph; its size is its own, and the rows asked for play no part."""

    def solve(rows: int) -> Sides:
        with needing("infomap", "infomap"):
            from infomap import Infomap
        edges = graph.to_scipy().tocoo()
        # Its seed starts at 1.
        network = Infomap(two_level=True, silent=True, seed=seed % (2**31 - 1) + 1, num_trials=1)
        network.bipartite_start_id = graph.num_users
        network.add_links(
            list(zip(edges.row.tolist(), (edges.col + graph.num_users).tolist(), edges.data, strict=True))
        )
        labels = np.zeros(graph.num_users + graph.num_items, dtype=np.int64)
        if graph.num_edges:
            network.run()
            modules = network.get_modules()
            labels[list(modules.keys())] = list(modules.values())
        return coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]), secondary)

    return solve


METHOD = Labelled(
    name="infomap",
    family="information",
    shared="modules of the shortest description of a random walk",
    source="Rosvall and Bergstrom, PNAS 105, 2008",
    size="own",
    secondary="none",
    solver=infomap_communities,
    requires=Package("infomap", "infomap"),
)
