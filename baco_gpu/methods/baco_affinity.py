"""Tables in which an id mixes the row of its co-cluster with those of the co-clusters that it interacts with.

Users and items share one codebook, in which every co-cluster has a row: a user is near the items that users like it
choose before anything is learned, and every row is learned from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.base import clone

from baco_gpu.budget import INDEX_BYTES, AnyBudget, Budget, TableSize, solve_within
from baco_gpu.clustering.affinity import nearby_coclusters
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.clustering.solve.cocluster import reach_of
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.clustered import Clustered
from baco_gpu.methods.method import Built, Spec
from baco_gpu.methods.residual_plan import ResidualPlan, budget_beside, plan_residuals
from baco_gpu.precision import bits_of
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.codebook import CodebookEmbedding

# Chosen by validation recall on Gowalla: secondary rows of a user and of an item, and the share of their own row.
SLOTS = (8, 4)
OWN_SHARE = 1 / 5
MOST_OF_THE_BUDGET = 1 / 2


class Mixture(NamedTuple):
    """A clustering whose co-clusters have one row each, and the rows that every id mixes with its own.

    Attributes
    ----------
    result : CoclusteringResult
    nearby : pair of int64 arrays of shape (users or items, slots), or None where the budget has no room for any
    """

    result: CoclusteringResult
    nearby: tuple[np.ndarray, np.ndarray] | None

    @property
    def indices(self) -> int:
        """How many secondary rows there are that are not the id's own."""
        if self.nearby is None:
            return 0
        sides = zip((self.result.users, self.result.items), self.nearby, strict=True)
        return sum(int(((near != side.labels[:, None]) & (near != NO_LABEL)).sum()) for side, near in sides)

    def tables(self, residuals: ResidualPlan, dim: int, *, bits: int | None = None) -> list[CodebookEmbedding]:
        """The tables of users and of items, which share one codebook, with the residuals of that plan."""
        sides = (self.result.users, self.result.items)
        return residuals.tables(sides, dim, bits=bits, shared=True, nearby=self.nearby, own_share=OWN_SHARE)


def mix_coclusters(
    graph: BipartiteGraph,
    clustering: BalancedCoclustering,
    table: TableSize,
    budget: Budget,
    progress: Progress = silent,
) -> Mixture:
    """Cluster for as many rows as the budget buys beside the indices of those that ids mix.

    Raises
    ------
    InputError
        If the budget cannot be met.
    """
    host, slots = graph.to("cpu"), _slots_within(budget, table)

    def solve(rows: int) -> tuple[Mixture, int, int]:
        result = clone(clustering).set_params(budget=rows).fit(graph, progress=progress).result_
        mixture = Mixture(result, None)
        if slots is not None:
            size = result.num_clusters
            users = nearby_coclusters(host.csr, result.items.labels, size, slots[0])
            items = nearby_coclusters(host.csc, result.users.labels, size, slots[1])
            mixture = Mixture(result, (users, items))
        return mixture, result.codebook_rows, mixture.indices

    reach = reach_of(host, slots or (0, 0), shared=True)
    return solve_within(budget, table, reach, solve)


def _slots_within(budget: Budget, table: TableSize) -> tuple[int, int] | None:
    """`SLOTS`, or as many in proportion as half of the budget has room for; None where that is not one an id."""
    whole = budget.rows_for(table, secondary_indices=0, secondary_slots=0) * table.row_bytes
    index = table.row_bytes / table.embedding_dim if budget.measure == "parameters" else INDEX_BYTES
    for parts in range(SLOTS[1], 0, -1):
        slots = (parts * SLOTS[0] // SLOTS[1], parts)
        if (slots[0] * table.num_users + slots[1] * table.num_items) * index <= MOST_OF_THE_BUDGET * whole:
            return slots
    return None


@dataclass(frozen=True, kw_only=True)
class Affinity(Clustered):
    """Mixed rows for what of the budget residuals leave."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size, whole = spec.size_for(graph), self.given(budget)
        assert isinstance(whole, Budget)  # users and items share one codebook
        residuals = plan_residuals(graph, size, whole)
        left = budget_beside(residuals, size, whole)
        estimator = spec.estimator(left, seed, self.fixed)
        # What is left may be nothing that a budget can be, and is refused as one.
        checked = Budget.of(estimator.budget, estimator.budget_measure)
        mixture = mix_coclusters(graph, estimator, size, checked, spec.progress)
        return Built.of(
            mixture.tables(residuals, size.embedding_dim, bits=bits_of(size.codebook_dtype)), mixture.result
        )


METHOD = Affinity(
    name="affinity",
    order=5,
    family="balanced",
    shared="co-clusters, ours, of one codebook: ids mix the rows that they interact with, and have residuals",
    when="budgets of parameters, where rows are to be floats or integers that are looked up",
    source="this project",
    joint=True,
    fixed={"codebooks": "shared", "secondary": "none"},
)
