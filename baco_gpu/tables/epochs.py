"""What has to happen to the tables of a model before an epoch and at the end of training: one call for all of them."""

from __future__ import annotations

import torch
from torch import nn

from baco_gpu.checks import check_integer
from baco_gpu.tables.embedding_table import check_model, encode
from baco_gpu.tables.full import tables_in


@torch.no_grad()
def begin_epoch(model: nn.Module, *, stored: bool = True, seed: int = 0) -> None:
    """Call before every epoch: lookups of all tables of a model then see rows as they are stored.

    Where it is not known as yet how rows are stored (the centroids of product codes), that is found first.

    Parameters
    ----------
    model : nn.Module
    stored : bool
        False for epochs that train floats, as before rows are rounded for the first time.
    seed : int
        Of what is found.
    """
    check_model(model)
    check_integer("seed", seed, minimum=0)
    tables = tables_in(model)
    if stored:
        encode(tables, seed)
    for table in tables:
        table.begin_epoch(stored=stored)


@torch.no_grad()
def finalize(model: nn.Module, *, seed: int = 0) -> None:
    """Call at the end: stores the rows of all tables of a model for good, and drops what only training reads."""
    begin_epoch(model, seed=seed)
    for table in tables_in(model):
        table.finalize()
