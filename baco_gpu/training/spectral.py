"""Starting values that know the interactions: singular vectors of the graph whose nodes are the rows of both tables."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import svds

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.normalised import normalised
from baco_gpu.models.model import Model
from baco_gpu.tables.full import as_table, size_of


@torch.no_grad()
def spectral_embeddings(model: Model, interactions: Interactions, std: float) -> None:
    """Turn the rows of users and of items into the directions of a spectral embedding, at the length of random rows.

    The interactions are added up between rows (those of ids whose first code a row is), `W`, and normalised as for
    spectral co-clustering, `D_users^(-1/2) W D_items^(-1/2)` (Dhillon, KDD 2001). The greatest singular values, square
    roots of which weigh their vectors, fill as many dimensions as there are rows for; further dimensions stay as they
    are, and so do rows without an interaction. The basis and the residuals of a `ResidualCodebookEmbedding` do too.
    A row of a codebook that both tables hold is the direction of the sum of what it is for users and for items.

    Parameters
    ----------
    model : Model
        Of tables of users and of items, with the values that are to stay.
    interactions : Interactions
        The training part.
    std : float
        Of a random row's entries: its expected length is `std * sqrt(dim)`.
    """
    tables = [as_table(table) for table in model.tables.values()]
    shared = size_of(*tables).rows < sum(size_of(table).rows for table in tables)
    users, items = (table.read_rows() for table in tables)
    user_rows, item_rows = (table.row_numbers().cpu().numpy() for table in tables)
    ends = (user_rows[interactions.users], item_rows[interactions.items])
    weights = np.ones(len(interactions)) if interactions.weights is None else interactions.weights
    between = scipy.sparse.csr_array((weights.astype(np.float64), ends), shape=(len(users), len(items)))
    count = min(users.shape[1], min(between.shape) - 1)
    if count < 1:
        return
    # The start is fixed, so that the vectors are; their signs are of no account.
    left, values, right = svds(normalised(between), k=count, v0=np.ones(min(between.shape)))
    parts = [(users, left + right.T)] if shared else [(users, left), (items, right.T)]
    for table, (rows, vectors) in zip(tables, parts, strict=False):
        directions = vectors * np.sqrt(np.maximum(values, 0.0))
        lengths = np.linalg.norm(directions, axis=1)
        known = np.flatnonzero(lengths > np.finfo(np.float32).eps)
        directions = directions[known] / lengths[known, None] * (std * math.sqrt(rows.shape[1]))
        rows[torch.as_tensor(known), :count] = torch.as_tensor(directions, dtype=rows.dtype, device=rows.device)
        table.write_rows(rows)
