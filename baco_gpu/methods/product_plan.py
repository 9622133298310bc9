"""Product codes at a budget: how many pieces and centroids it buys, and codes of tables that are trained already."""

from __future__ import annotations

import bisect
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baco_gpu.budget import INDEX_BYTES, SIDES, Budget, SideBudgets, TableSize, budget_of
from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.methods.trellis_plan import TrellisPlan, degree_array, is_small, plan_trellis
from baco_gpu.precision import CODE_BITS, ProductFormat
from baco_gpu.tables.embedding_table import encode
from baco_gpu.tables.product import ProductCodebookEmbedding

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
    code_bits: int

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
        row = self.subspaces * self.code_bits // 8
        return table.num_users * row, table.num_items * (row + 1)

    def tables(self, table: TableSize, **options: Any) -> tuple[ProductCodebookEmbedding, ProductCodebookEmbedding]:
        """Tables of users and items, of the same centroids, with these options of `CodebookEmbedding`."""
        users, items = (self.table(side, table, **options) for side in SIDES)
        items.centroids = users.centroids
        return users, items

    def table(self, side: str, table: TableSize, **options: Any) -> ProductCodebookEmbedding:
        """The table of users or of items, of centroids of its own."""
        size, lengths = (table.num_users, False) if side == "users" else (table.num_items, True)
        cut = self._asdict()
        return ProductCodebookEmbedding(np.arange(size), table.embedding_dim, **cut, lengths=lengths, **options)


@torch.no_grad()
def encode_pretrained(
    users: Tensor,
    items: Tensor,
    budget: Any = 0.25,
    *,
    budget_measure: str = "parameters",
    seed: int = 0,
    item_degrees: Any = None,
) -> tuple[ProductCodebookEmbedding, ProductCodebookEmbedding]:
    """Codes, within a budget, of a trained pair of tables whose scores are inner products.

    These are product codes, and below a twelfth trellis codes (`TrellisEmbedding`).

    One rotation turns both first, which keeps inner products. Train on if you can, with `reassign` before every epoch,
    then drop the floats behind the codes: `drop_latent_weight`.

    Parameters
    ----------
    users, items : floating tensors of shape (num_users, dim) and (num_items, dim)
        On one device; the codes are, too.
    budget, budget_measure : as of `BalancedCoclustering`
    seed : int
        Of k-means; the same codes for the same seed.
    item_degrees : integers of shape (num_items,), optional
        How often items are used: with trellis codes, those that are used more have more bits.

    Raises
    ------
    InputError
        If tables are not of one width, hold anything but finite numbers, the budget is none, or degrees are not one
        an item.
    UnreachableBudgetError
        As `plan_product` and `plan_trellis` do.
    """
    check_integer("seed", seed, minimum=0)
    for name, table in (("users", users), ("items", items)):
        if table.ndim != 2 or not table.is_floating_point() or table.shape[1] != users.shape[-1]:
            raise InputError(
                f"{name} must be floats of shape (ids, {users.shape[-1] if users.ndim == 2 else 'dim'}), "
                f"got {table.dtype} of shape {tuple(table.shape)}"
            )
        if not table.isfinite().all():
            raise InputError(f"{name} must be finite, got NaN or infinity")
    size = TableSize(len(users), len(items), users.shape[1], users.element_size())
    options = dict[str, Any](dtype=users.dtype, device=users.device)
    given, modules = budget_of(budget, budget_measure), []
    degrees = None if item_degrees is None else degree_array(item_degrees, len(items))

    def plan(part: Budget, size: TableSize) -> ProductPlan | TrellisPlan:
        if is_small(part, size):
            return plan_trellis(part, size, degrees if size.num_items else None)
        return plan_product(part, size)

    if isinstance(given, SideBudgets):
        for side, part in zip(SIDES, given.pair, strict=True):
            if part is None:
                raise InputError(f"budget of {side} must be a number, got None")
            table_size = size.of_side(side)
            modules.append(plan(part, table_size).table(side, table_size, **options))
    else:
        modules += plan(given, size).tables(size, **options)
    for module, table in zip(modules, (users, items), strict=True):
        module.codebook.copy_(table)
    encode(modules, seed)
    return modules[0], modules[1]


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

    def affordable(subspaces: int, code_bits: int) -> list[ProductPlan]:
        pieces = table.full_rows * subspaces
        counts = range(2, min(MOST_PLANNED, 1 << code_bits, pieces) + 1)
        most_centroids = 1 + bisect.bisect_right(
            counts, most, key=lambda count: cost(ProductPlan(subspaces, count, code_bits))
        )
        # Fewer than that are worth more where they leave a bit for one more sign.
        powers = (1 << power for power in range(1, most_centroids.bit_length()))
        return [ProductPlan(subspaces, count, code_bits) for count in (*powers, most_centroids) if count >= 2]

    plans = [
        plan
        for code_bits in CODE_BITS
        for subspaces in range(1, max(1, ENOUGH_BITS * table.embedding_dim // code_bits) + 1)
        for plan in affordable(subspaces, code_bits)
    ]
    if not plans:
        least = cost(ProductPlan(1, 2, CODE_BITS[0]))
        raise UnreachableBudgetError(
            f"budget must buy two centroids, a number for every row and the lengths of items, at least {least} "
            f"{budget.measure}, got {math.floor(most)}"
        )
    return min(plans, key=lambda plan: (plan.form(table).error, -plan.centroids, plan.code_bits))
