"""No compression: what all others are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from baco_gpu.budget import AnyBudget
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.tables.full import FullTable


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """A row of floats for every user and item."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size = spec.size_for(graph)
        return Built.of(
            [FullTable(count, size.embedding_dim) for count in (size.num_users, size.num_items)], clustered=False
        )


METHOD = Full(
    name="full",
    order=0,
    family="none",
    shared="nobody",
    stored="floats",
    when="as the yardstick, or where memory is no matter",
    source="-",
    size="full",
    served=False,
)
