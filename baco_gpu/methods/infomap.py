"""infomap: the partition that describes a random walk in the fewest bits (Rosvall and Bergstrom, PNAS 105, 2008)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.sides import NEITHER, Sides, coclusters
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package

# What infomap's documentation advises for most analyses; the shortest description of them is taken.
_TRIALS = 10


def infomap_communities(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[int], Sides]:
    """Two-level infomap on the graph of users and items; its size is its own, and the rows asked for play no part.

    Which nodes are items is not declared (`bipartite_start_id`): infomap would then describe the walk's visits to users
    alone, in steps of two edges, and items, which need rows as users do, would follow.
    """

    def solve(rows: int) -> Sides:
        with needing("infomap", "infomap"):
            from infomap import Infomap
        edges = graph.to_scipy().tocoo()
        # Its seed starts at 1.
        network = Infomap(two_level=True, silent=True, seed=seed % (2**31 - 1) + 1, num_trials=_TRIALS)
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
