"""How much of a budget goes to residuals: which ids have one, of what rank, and what is left for shared rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.budget import INDEX_BYTES, SIDES, Budget, TableSize
from baco_gpu.clustering.result import Assignment
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.tables.residual import ResidualCodebookEmbedding, ResidualMixedCodebookEmbedding

# Chosen by validation recall on three sets: ids of fewer interactions do better with the row that they share, and at a
# higher rank the shared rows lose more than residuals win.
MIN_INTERACTIONS = 20
RANK_SHARE = 1 / 8
MOST_OF_THE_BUDGET = 1 / 2


class ResidualPlan(NamedTuple):
    """Who has a residual.

    Attributes
    ----------
    rank : int, 0 where the budget is too small for residuals, or no id has enough interactions
    users, items : int64 arrays, the ids that have one
    """

    rank: int
    users: np.ndarray
    items: np.ndarray

    def parameters(self, table: TableSize) -> int:
        """What they cost: `rank` numbers and one index an id, and a basis for each side that has any."""
        owners = (len(self.users), len(self.items))
        return sum(count * (self.rank + 1) + self.rank * table.embedding_dim for count in owners if count)

    def bytes(self, table: TableSize) -> int:
        """What they take: residuals with the zero row of other ids, a basis, and an index of all ids of the side."""
        sides = ((len(self.users), table.num_users), (len(self.items), table.num_items))
        values = sum(self.rank * (count + 1 + table.embedding_dim) for count, _ in sides if count)
        return values * table.value_bytes + sum(size for count, size in sides if count) * INDEX_BYTES

    def tables(
        self,
        sides: tuple[Assignment, Assignment],
        dim: int,
        *,
        bits: int | None = None,
        shared: bool = False,
        nearby: tuple[np.ndarray, np.ndarray] | None = None,
        own_share: float = 0.5,
    ) -> list[CodebookEmbedding]:
        """The tables of users and of items, with a codebook each or one that they share.

        A side where nobody has a residual gets a plain codebook. With `nearby`, the further rows of every id, its own
        has `own_share`.
        """
        labels = np.union1d(*(side.labels for side in sides)) if shared else None
        tables: list[CodebookEmbedding] = []
        for place, owners in enumerate((self.users, self.items)):
            side, options = sides[place], dict[str, Any](labels=labels, bits=bits)
            kind: Any
            if nearby is None:
                second, kind = side.secondary, ResidualCodebookEmbedding if len(owners) else CodebookEmbedding
            else:
                second, kind = nearby[place], ResidualMixedCodebookEmbedding if len(owners) else MixedCodebookEmbedding
                options["own_share"] = own_share
            if len(owners):
                options |= {"residual_dim": self.rank, "residual_ids": owners}
            tables.append(kind(side.labels, dim, second, **options))
        if shared:
            tables[1].codebook = tables[0].codebook
        return tables


NOBODY = ResidualPlan(0, np.empty(0, np.int64), np.empty(0, np.int64))


def plan_residuals(
    graph: BipartiteGraph, table: TableSize, budget: Budget, sides: Sequence[str] = SIDES
) -> ResidualPlan:
    """Residuals for every id of `MIN_INTERACTIONS` or more, of these sides.

    They are of an eighth of the width or, where these would take more than half of the budget, of the greatest rank
    that does not.
    """
    users, items = (
        np.flatnonzero(degrees >= MIN_INTERACTIONS) if side in sides else np.empty(0, np.int64)
        for side, degrees in zip(SIDES, (graph.user_degrees, graph.item_degrees), strict=True)
    )
    for rank in range(max(1, int(table.embedding_dim * RANK_SHARE)), 0, -1):
        plan = ResidualPlan(rank, users, items)
        cost, most = _cost_and_most(plan, table, budget)
        if 0 < cost <= most:
            return plan
    return NOBODY


def budget_beside(plan: ResidualPlan, table: TableSize, budget: Budget) -> Budget:
    """What is left of the budget for codebook rows and secondary indices."""
    cost = plan.parameters(table)
    if budget.rows is not None:
        return replace(budget, rows=budget.rows - -(-cost // table.embedding_dim))
    assert budget.ratio is not None
    if budget.measure == "bytes":
        return replace(budget, ratio=budget.ratio - plan.bytes(table) / table.full_bytes)
    return replace(budget, ratio=budget.ratio - cost / table.full_parameters)


def _cost_and_most(plan: ResidualPlan, table: TableSize, budget: Budget) -> tuple[float, float]:
    """What residuals cost and may cost, in the measure of the budget; the index arrays of the rows come first."""
    if budget.rows is not None:
        return plan.parameters(table), MOST_OF_THE_BUDGET * budget.rows * table.embedding_dim
    assert budget.ratio is not None
    if budget.measure == "bytes":
        left = budget.ratio * table.full_bytes - table.compressed_bytes(0, table.full_rows)
        return plan.bytes(table), MOST_OF_THE_BUDGET * left
    return plan.parameters(table), MOST_OF_THE_BUDGET * budget.ratio * table.full_parameters
