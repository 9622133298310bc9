"""How finely product codes are cut at a budget: how wide pieces of a row are, and how many centroids there are."""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

import numpy as np

from baco_gpu.clustering.budget import Budget, TableSize
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.codebook.subspaces import numbers_dtype, subspaces_of
from baco_gpu.errors import UnreachableBudgetError

# More take longer to find and to search than they are worth; see docs/quality.md.
MOST_PLANNED = 1 << 14


class ProductPlan(NamedTuple):
    """Dimensions of a piece, and how many centroids users and items have together."""

    width: int
    centroids: int

    def parameters(self, table: TableSize) -> int:
        """Entries of centroids, and an index for each number of a row but the first, as the label of an id is free."""
        return table.full_rows * (subspaces_of(table.embedding_dim, self.width) - 1) + self.centroids * self.width

    def bytes(self, table: TableSize) -> int:
        """Centroids, and a byte or two for each number of a row."""
        numbers = table.full_rows * subspaces_of(table.embedding_dim, self.width)
        entries = self.centroids * self.width
        return numbers * numbers_dtype(self.centroids).itemsize + entries * table.value_bytes

    def tables(self, table: TableSize) -> tuple[ProductCodebookEmbedding, ProductCodebookEmbedding]:
        """Tables of users and items, of the same centroids."""
        users, items = (
            ProductCodebookEmbedding(np.arange(size), table.embedding_dim, width=self.width, centroids=self.centroids)
            for size in (table.num_users, table.num_items)
        )
        items.centroids = users.centroids
        return users, items


def plan_product(budget: Budget, table: TableSize) -> ProductPlan:
    """The plan of most bits a dimension that the budget buys; a number of rows stands for its parameters.

    Of normally distributed rows, that is what errs least (Gersho, IEEE Transactions on Information Theory 25, 1979).

    Raises
    ------
    UnreachableBudgetError
        If it does not buy two centroids, and one number for every row.
    """
    of_bytes = budget.is_share_of_bytes
    if budget.rows is not None:
        most: float = budget.rows * table.embedding_dim
    else:
        assert budget.ratio is not None
        most = budget.ratio * (table.full_bytes if of_bytes else table.full_parameters)

    def cost(plan: ProductPlan) -> int:
        return plan.bytes(table) if of_bytes else plan.parameters(table)

    def most_centroids(width: int) -> int:
        counts = range(2, min(MOST_PLANNED, table.full_rows * (table.embedding_dim // width)) + 1)
        return 1 + bisect.bisect_right(counts, most, key=lambda count: cost(ProductPlan(width, count)))

    plans = [ProductPlan(width, most_centroids(width)) for width in range(1, table.embedding_dim + 1)]
    affordable = [plan for plan in plans if plan.centroids >= 2]
    if not affordable:
        least = cost(ProductPlan(table.embedding_dim, 2))
        raise UnreachableBudgetError(
            f"budget must buy two centroids and a number for every row, at least {least} {budget.measure}, "
            f"got {math.floor(most)}"
        )
    return max(affordable, key=lambda plan: math.log2(plan.centroids) / plan.width)
