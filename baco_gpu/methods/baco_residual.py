"""Ours, and well-known ids have a residual of low rank beside the row that they share."""

from __future__ import annotations

from dataclasses import dataclass

from baco_gpu.budget import Budget
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.clustered import Clustered
from baco_gpu.methods.method import Built, Spec
from baco_gpu.methods.residual_plan import budget_beside, plan_residuals
from baco_gpu.precision import bits_of


@dataclass(frozen=True, kw_only=True)
class Residual(Clustered):
    """Co-clusters for what of the budget residuals leave."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: Budget | None, seed: int) -> Built:
        size, whole = spec.size_for(graph), self.given(budget)
        residuals = plan_residuals(graph, size, whole)
        result = self.cluster(graph, spec, budget_beside(residuals, size, whole), seed)
        sides, bits = (result.users, result.items), bits_of(size.codebook_dtype)
        return Built.of(residuals.tables(sides, size.embedding_dim, bits=bits, shared=result.shared), result)


METHOD = Residual(
    name="residual",
    family="balanced",
    shared="co-clusters, ours; well-known ids have a residual of low rank beside their row",
    when="many ids have twenty interactions or more, and budgets are of parameters",
    source="this project",
    secondary="users",
)
