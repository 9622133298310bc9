"""The full table of fewer dimensions: what a budget buys without any method."""

from __future__ import annotations

import math
from dataclasses import dataclass

from baco_gpu.budget import AnyBudget, Budget, SideBudgets, TableSize
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.tables.full import FullTable


@dataclass(frozen=True, kw_only=True)
class LowDim(Method):
    """A row for every user and item, of as many dimensions as the budget allows."""

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size, given = spec.size_for(graph), self.given(budget)
        if isinstance(given, SideBudgets):  # of the one table that there is
            ((side, part),) = self.parts(spec, budget).items()
            width = _width_within(part, size.of_side(side))
        else:
            width = _width_within(given, size)
        return Built.of([FullTable(count, width) for count in (size.num_users, size.num_items)], clustered=False)


def _width_within(budget: Budget, table: TableSize) -> int:
    """The most dimensions that a row of every id may have; a number of rows stands for its parameters."""
    share = budget.ratio if budget.ratio is not None else (budget.rows or 0) / table.full_rows
    # The excess keeps the rounding of a share such as 3/64 from taking a dimension.
    width = math.floor(share * table.embedding_dim + 1e-9)
    if width < 1:
        raise UnreachableBudgetError(
            f"a table of one dimension is {1 / table.embedding_dim:g} of the full one, above a budget of {share:g}"
        )
    return width


METHOD = LowDim(
    name="low-dim",
    order=10,
    former=("narrow",),
    family="none",
    shared="nobody: the full table, with as many dimensions as the budget allows",
    stored="floats",
    when="as the simplest thing to do, which a method has to beat",
    source="-",
    served=False,
)
