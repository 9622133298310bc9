"""Starting values that know the interactions: singular vectors of the graph whose nodes are the rows of both tables."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.low_precision import LowPrecisionEmbedding
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.normalised import normalised
from baco_gpu.models.recommender import Recommender, Table


@torch.no_grad()
def spectral_embeddings(model: Recommender, interactions: Interactions, std: float) -> None:
    """Turn every row of both tables into the direction of its spectral embedding, at the length of a random row.

    The interactions are added up between rows (those of ids whose first code a row is), `W`, and normalised as for
    spectral co-clustering, `D_users^(-1/2) W D_items^(-1/2)` (Dhillon, KDD 2001). The greatest singular values, square
    roots of which weigh their vectors, fill as many dimensions as there are rows for; further dimensions stay as they
    are, and so do rows without an interaction. The basis and the residuals of a `ResidualCodebookEmbedding` do too.
    A row of a codebook that both tables hold is the direction of the sum of what it is for users and for items.

    Parameters
    ----------
    model : Recommender
        With the values that are to stay.
    interactions : Interactions
        The training part.
    std : float
        Of a random row's entries: its expected length is `std * sqrt(dim)`.
    """
    tables = (model.user_embedding, model.item_embedding)
    sides = [_rows_of(table) for table in tables]
    (users, user_codes), (items, item_codes) = sides
    ends = (user_codes[interactions.users], item_codes[interactions.items])
    weights = np.ones(len(interactions)) if interactions.weights is None else interactions.weights
    between = scipy.sparse.csr_array((weights.astype(np.float64), ends), shape=(len(users), len(items)))
    count = min(users.shape[1], min(between.shape) - 1)
    if count < 1:
        return
    # The start is fixed, so that the vectors are; their signs are of no account.
    left, values, right = svds(normalised(between), k=count, v0=np.ones(min(between.shape)))
    parts = [(users, left + right.T)] if users is items else [(users, left), (items, right.T)]
    for table, vectors in parts:
        rows = vectors * np.sqrt(np.maximum(values, 0.0))
        lengths = np.linalg.norm(rows, axis=1)
        known = np.flatnonzero(lengths > np.finfo(np.float32).eps)
        rows = rows[known] / lengths[known, None] * (std * math.sqrt(table.shape[1]))
        table[torch.as_tensor(known), :count] = torch.as_tensor(rows, dtype=table.dtype, device=table.device)

    for embedding, (rows, _) in zip(tables, sides, strict=True):
        integers = _integers_of(embedding)
        if integers is not None:
            integers.write_all(rows)


def _rows_of(table: Table) -> tuple[Tensor, np.ndarray]:
    """The rows of a table, or a copy where they are no floats, and which of them every id has."""
    integers = _integers_of(table)
    codes = table.codes.cpu().numpy() if isinstance(table, CodebookEmbedding) else np.arange(table.num_embeddings)
    if integers is not None:
        return integers.read(), codes
    if isinstance(table, CodebookEmbedding):
        return table.codebook, codes
    return table.weight, codes


def _integers_of(table: Table) -> LowPrecisionEmbedding | None:
    """Where the rows of a table are, if they are integers while they are trained."""
    behind = table.behind if isinstance(table, ProductCodebookEmbedding) else table
    return behind if isinstance(behind, LowPrecisionEmbedding) else None
