"""Label propagation, stopped at the budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common import propagation_kernels as kernels
from baco_gpu.methods.common.passes import State, stopped_at_rows
from baco_gpu.methods.common.sides import NEITHER, Sides
from baco_gpu.methods.labelled import Labelled


def label_propagation(
    graph: BipartiteGraph, seed: int, secondary: tuple[bool, bool] = NEITHER
) -> Callable[[Target], Sides]:
    """Raghavan et al. (Phys. Rev. E 76, 036106): the label most frequent among the neighbors, ties by chance."""

    def run(state: State, order: np.ndarray, rows: int, salt: int) -> tuple[int, int]:
        return kernels.propagate(*state.arrays, order, graph.num_users, state.labels, state.members, rows, salt)

    return stopped_at_rows("propagation", run, graph, seed, secondary)


METHOD = Labelled(
    name="propagation",
    family="propagation",
    shared="nodes that propagation gives a label, stopped at the budget",
    source="Raghavan et al., Phys. Rev. E 76, 036106",
    secondary="none",
    solver=label_propagation,
)
