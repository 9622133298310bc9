"""How finely product codes are cut at a budget: how wide subspaces are, and how many centroids they have."""

from __future__ import annotations

import math
from typing import NamedTuple

from baco_gpu.clustering.budget import Budget, TableSize
from baco_gpu.codebook.subspaces import MOST_CENTROIDS, subspaces_of
from baco_gpu.errors import UnreachableBudgetError


class ProductPlan(NamedTuple):
    """Dimensions of a subspace, and its centroids, which users and items have apart.

    Of a side with fewer rows than `centroids`, a subspace has as many as these.
    """

    width: int
    centroids: int

    def parameters(self, table: TableSize) -> int:
        """Entries of centroids, and an index for each number of a row but the first, as the label of an id is free."""
        subspaces = subspaces_of(table.embedding_dim, self.width)
        return table.full_rows * (subspaces - 1) + self._entries(table)

    def bytes(self, table: TableSize) -> int:
        """Centroids, and a byte for each number of a row."""
        return (
            table.full_rows * subspaces_of(table.embedding_dim, self.width) + self._entries(table) * table.value_bytes
        )

    def _entries(self, table: TableSize) -> int:
        centroids = sum(min(self.centroids, size) for size in (table.num_users, table.num_items))
        return centroids * subspaces_of(table.embedding_dim, self.width) * self.width


def plan_product(budget: Budget, table: TableSize) -> ProductPlan:
    """The plan of most bits a dimension that the budget buys; a number of rows stands for its parameters.

    Of normally distributed rows, that is what errs least (Gersho, IEEE Transactions on Information Theory 25, 1979).

    Raises
    ------
    UnreachableBudgetError
        If it does not buy a row a side with one number and two centroids.
    """
    of_bytes = budget.is_share_of_bytes
    if budget.rows is not None:
        most: float = budget.rows * table.embedding_dim
    else:
        assert budget.ratio is not None
        most = budget.ratio * (table.full_bytes if of_bytes else table.full_parameters)

    def cost(plan: ProductPlan) -> int:
        return plan.bytes(table) if of_bytes else plan.parameters(table)

    widths, counts = range(1, table.embedding_dim + 1), range(2, MOST_CENTROIDS + 1)
    affordable = [plan for width in widths for count in counts if cost(plan := ProductPlan(width, count)) <= most]
    if not affordable:
        least = cost(ProductPlan(table.embedding_dim, 2))
        raise UnreachableBudgetError(
            f"budget must buy two centroids a side and a number for every row, at least {least} {budget.measure}, "
            f"got {math.floor(most)}"
        )
    return max(affordable, key=lambda plan: math.log2(plan.centroids) / plan.width)
