"""No compression, and no process with the whole of it: full tables too large for one, of which each has some rows."""

from __future__ import annotations

from dataclasses import dataclass

from baco_gpu.budget import AnyBudget
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.tables.sharded import ShardedTable


@dataclass(frozen=True, kw_only=True)
class FullSharded(Method):
    """A row of floats for every user and item, on one of the processes that train together."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        dim = spec.size_for(graph).embedding_dim
        return Built.of(
            [ShardedTable(count, dim, spec.ranks) for count in (graph.num_users, graph.num_items)], clustered=False
        )


METHOD = FullSharded(
    name="full:sharded",
    order=11,
    family="none",
    shared="nobody",
    stored="floats",
    when="as full, under torchrun: every process has some of the rows",
    source="-",
    size="full",
    served=False,
    sharded=True,
)
