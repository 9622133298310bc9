"""Ours, and well-known ids have a residual of low rank beside the row that they share."""

from __future__ import annotations

from dataclasses import dataclass

from baco_gpu.budget import SIDES, AnyBudget, SideBudgets
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.clustered import Clustered
from baco_gpu.methods.method import Built, Spec
from baco_gpu.methods.residual_plan import budget_beside, plan_residuals
from baco_gpu.precision import bits_of


@dataclass(frozen=True, kw_only=True)
class Residual(Clustered):
    """Co-clusters for what of the budget residuals leave."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size, whole = spec.size_for(graph), self.given(budget)
        if isinstance(whole, SideBudgets):
            return self._by_side(graph, spec, whole, seed)
        residuals = plan_residuals(graph, size, whole)
        result = self.cluster(graph, spec, budget_beside(residuals, size, whole), seed)
        sides, bits = (result.users, result.items), bits_of(size.codebook_dtype)
        return Built.of(residuals.tables(sides, size.embedding_dim, bits=bits, shared=result.shared), result)

    def _by_side(self, graph: BipartiteGraph, spec: Spec, budget: SideBudgets, seed: int) -> Built:
        """Residuals of a rank of its own, and what they leave of its own budget, for each side."""
        size, plans, left = spec.size_for(graph), {}, dict.fromkeys(SIDES)
        for side, part in self.parts(spec, budget).items():
            table = size.of_side(side)
            plans[side] = plan_residuals(graph, table, part, (side,))
            left[side] = budget_beside(plans[side], table, part)
        result = self.cluster(graph, spec, SideBudgets(**left), seed)
        sides, bits = (result.users, result.items), bits_of(size.codebook_dtype)
        return Built(
            {
                side: plan.tables(sides, size.embedding_dim, bits=bits)[SIDES.index(side)]
                for side, plan in plans.items()
            },
            result,
        )


METHOD = Residual(
    name="residual",
    order=6,
    family="balanced",
    shared="co-clusters, ours; well-known ids have a residual of low rank beside their row",
    when="many ids have twenty interactions or more, and budgets are of parameters",
    source="this project",
    secondary="users",
    by_side=True,
)
