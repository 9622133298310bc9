"""Methods whose rows are shared as `BalancedCoclustering` clusters: ours, and the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from baco_gpu.budget import AnyBudget
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.labelled import check_sides
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.methods.residual_plan import NOBODY
from baco_gpu.precision import bits_of


@dataclass(frozen=True, kw_only=True)
class Clustered(Method):
    """A method that has co-clusters for its labels.

    Attributes
    ----------
    fixed : mapping
        Parameters of `BalancedCoclustering` that the method decides.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def heeds(self, parameter: str) -> bool:
        return parameter not in self.fixed

    def with_setting(self, setting: str) -> Self:
        if self.secondary is None:
            return super().with_setting(setting)
        check_sides(self, setting)
        fixed = {**self.fixed, "secondary": setting}
        return replace(self, name=f"{self.name}:{setting}", secondary=setting, fixed=fixed, takes_result=False)

    def cluster(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> CoclusteringResult:
        """The clustering that is there already, or that the budget buys."""
        if spec.result is not None:
            return spec.result
        return spec.estimator(budget, seed, self.fixed).fit(graph, progress=spec.progress).result_

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size, result = spec.size_for(graph), self.cluster(graph, spec, budget, seed)
        bits = bits_of(size.codebook_dtype)
        return Built.of(
            NOBODY.tables((result.users, result.items), size.embedding_dim, bits=bits, shared=result.shared), result
        )
