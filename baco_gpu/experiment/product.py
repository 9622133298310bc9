"""How finely product codes are cut at a budget: how many pieces a row has, and how many centroids there are."""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

import numpy as np

from baco_gpu.clustering.budget import INDEX_BYTES, Budget, TableSize
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.precision import NUMBER_BITS, ProductFormat

# With four dimensions and more, numbers of 16 bits are used up by these and signs; more take longer to find.
MOST_PLANNED = 1 << 12
# Bits that numbers have for a value: with as many, no recall was lost that another seed would not change as well.
ENOUGH_BITS = 4


class ProductPlan(NamedTuple):
    """Pieces of a row, how many centroids users and items have together, and bits of a number; items have lengths.

    A user's length changes no ranking of inner products.
    """

    subspaces: int
    centroids: int
    number_bits: int

    def form(self, table: TableSize) -> ProductFormat:
        return ProductFormat(table.embedding_dim, *self)

    def parameters(self, table: TableSize) -> int:
        """Entries of centroids, and one for every 4 bytes of codes, as for an index."""
        return self._entries(table) + sum(-(-codes // INDEX_BYTES) for codes in self._code_bytes(table))

    def bytes(self, table: TableSize) -> int:
        """Centroids, a byte or two for each number of a row, and one for the length of an item."""
        return self._entries(table) * table.value_bytes + sum(self._code_bytes(table))

    def _entries(self, table: TableSize) -> int:
        return self.centroids * self.form(table).width

    def _code_bytes(self, table: TableSize) -> tuple[int, int]:
        """Of users and of items."""
        row = self.subspaces * self.number_bits // 8
        return table.num_users * row, table.num_items * (row + 1)

    def tables(self, table: TableSize) -> tuple[ProductCodebookEmbedding, ProductCodebookEmbedding]:
        """Tables of users and items, of the same centroids."""
        users, items = (
            ProductCodebookEmbedding(np.arange(size), table.embedding_dim, **self._asdict(), lengths=lengths)
            for size, lengths in ((table.num_users, False), (table.num_items, True))
        )
        items.centroids = users.centroids
        return users, items


def plan_product(budget: Budget, table: TableSize) -> ProductPlan:
    """The plan that the budget buys whose rows err least, and of most centroids where several do.

    See `ProductFormat.error`. A number of rows stands for its parameters. What is left of a budget of more than
    `ENOUGH_BITS` a value stays unspent.

    Raises
    ------
    UnreachableBudgetError
        If it does not buy two centroids, one number for every row, and lengths of items.
    """
    of_bytes = budget.is_share_of_bytes
    if budget.rows is not None:
        most: float = budget.rows * table.embedding_dim
    else:
        assert budget.ratio is not None
        most = budget.ratio * (table.full_bytes if of_bytes else table.full_parameters)

    def cost(plan: ProductPlan) -> int:
        return plan.bytes(table) if of_bytes else plan.parameters(table)

    def affordable(subspaces: int, number_bits: int) -> list[ProductPlan]:
        pieces = table.full_rows * subspaces
        counts = range(2, min(MOST_PLANNED, 1 << number_bits, pieces) + 1)
        most_centroids = 1 + bisect.bisect_right(
            counts, most, key=lambda count: cost(ProductPlan(subspaces, count, number_bits))
        )
        # Fewer than that are worth more where they leave a bit for one more sign.
        powers = (1 << power for power in range(1, most_centroids.bit_length()))
        return [ProductPlan(subspaces, count, number_bits) for count in (*powers, most_centroids) if count >= 2]

    plans = [
        plan
        for number_bits in NUMBER_BITS
        for subspaces in range(1, max(1, ENOUGH_BITS * table.embedding_dim // number_bits) + 1)
        for plan in affordable(subspaces, number_bits)
    ]
    if not plans:
        least = cost(ProductPlan(1, 2, NUMBER_BITS[0]))
        raise UnreachableBudgetError(
            f"budget must buy two centroids, a number for every row and the lengths of items, at least {least} "
            f"{budget.measure}, got {math.floor(most)}"
        )
    return min(plans, key=lambda plan: (plan.form(table).error, -plan.centroids, plan.number_bits))
