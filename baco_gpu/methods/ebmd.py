"""EBMD: nodes take labels by bipartite modularity density, stopped at the budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common import propagation_kernels as kernels
from baco_gpu.methods.common.passes import State, stopped_at_rows
from baco_gpu.methods.common.sides import NEITHER, Sides
from baco_gpu.methods.labelled import Labelled


def ebmd(graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER) -> Callable[[Target], Sides]:
    """Bipartite modularity density (Xu et al., Information Sciences 317, 2015), ascended as BACO's authors do.

    A node's links to a cluster count by the excess `delta` of the cluster's density over the graph's:
    `delta * links - delta^2 * degree * volume / |E|`, the volume that of the cluster's other side; density is the edges
    within over the product of both volumes. Neither the text nor code of that paper was at hand: the gain is not
    checked against them.
    """

    def run(state: State, order: np.ndarray, rows: int, salt: int) -> tuple[int, int]:
        return kernels.ascend_density(
            *state.arrays, order, graph.num_users, state.labels, state.members, state.volumes, state.inside, rows
        )

    return stopped_at_rows("ebmd", run, graph, seed, secondary)


METHOD = Labelled(
    name="ebmd",
    family="propagation",
    shared="clusters of bipartite modularity density, stopped at the budget",
    source="Xu et al., Information Sciences 317, 2015",
    secondary="none",
    solver=ebmd,
)
