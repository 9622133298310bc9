"""From floats to product codes, in a model whose scores are inner products."""

from __future__ import annotations

import torch

from baco_gpu.codebook.encoding import encode_together, rotate_together
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.models.recommender import Recommender


@torch.no_grad()
def encode_tables(model: Recommender, seed: int) -> None:
    """Encode the tables of product codes that are floats as yet; others are left alone.

    Where both tables are to be, they are rotated first, both alike, so that subspaces are balanced: no inner product
    of rows changes, nor of what LightGCN propagates, and so nothing need be rotated back, or stored.
    """
    tables = [table for table in _product_tables(model) if not table.encoded]
    if len(tables) == 2 and tables[0].form[:2] == tables[1].form[:2]:
        rotate_together(tables)
    for centroids in dict.fromkeys(table.centroids for table in tables):
        encode_together([table for table in tables if table.centroids is centroids], seed)


def reassign_rows(model: Recommender) -> None:
    """Let the rows that are product codes follow their floats."""
    for table in _product_tables(model):
        if table.has_floats:
            table.reassign()


def begin_with_floats(model: Recommender) -> None:
    """See tables of product codes as the floats behind them, where there are any; they are encoded when it is time."""
    for table in _product_tables(model):
        if table.has_floats:
            table.to_floats()


def _product_tables(model: Recommender) -> list[ProductCodebookEmbedding]:
    tables = (model.user_embedding, model.item_embedding)
    return [table for table in tables if isinstance(table, ProductCodebookEmbedding)]
