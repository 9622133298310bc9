"""Answers by a trained model, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from baco_gpu.data.interactions import Interactions
from baco_gpu.models.model import Model
from baco_gpu.serving.answers import Recommender
from baco_gpu.tables.embedding_table import numpy_of


def recommender_of(model: Model, seen: Interactions) -> Recommender:
    """What answers by a trained model, where `seen` says the raw ids and what users have seen."""
    with torch.no_grad():
        users, items = model.lookups()
    dim = next(iter(model.tables.values())).embedding_dim
    return Recommender(_ModelRows(model.num_users, dim, users), _ModelRows(model.num_items, dim, items), seen)


class _ModelRows(NamedTuple):
    """`baco_gpu.serving.answers.Vectors` that a model makes."""

    num_embeddings: int
    embedding_dim: int
    rows_of: Callable[[Tensor], Tensor]

    def lookup(self, ids: Any) -> np.ndarray:
        with torch.no_grad():
            return numpy_of(self.rows_of(torch.as_tensor(ids)))
