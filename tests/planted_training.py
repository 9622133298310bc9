"""A planted set that models learn in seconds, and models of every kind of table on it."""

from __future__ import annotations

import numpy as np
import torch

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.models import build_model, full_table
from baco_gpu.tables import CodebookEmbedding, ProductCodebookEmbedding, QuantizedEmbedding

USERS, ITEMS, GROUPS = 60, 40, 4


def planted_split(seed=0):
    """Users choose seven of the ten items of their own group: five to train on, one for each of the other parts."""
    rng = np.random.default_rng(seed)
    parts = [[], [], []]
    for user in range(USERS):
        chosen = rng.permutation(np.arange(user % GROUPS, ITEMS, GROUPS))[:7]
        for part, items in zip(parts, np.split(chosen, [5, 6]), strict=True):
            part.extend((user, item) for item in items)
    return SplitInteractions(*(interactions(part) for part in parts))


def interactions(pairs):
    users, items = np.array(pairs, np.int32).reshape(-1, 2).T
    return Interactions(np.ascontiguousarray(users), np.ascontiguousarray(items), USERS, ITEMS)


def make(
    method="lightgcn", split=None, *, compressed=False, bits=None, product=False, low_precision=None, row_bits=None
):
    tables = full_table(USERS, 8), full_table(ITEMS, 8)
    if product:
        tables = [
            ProductCodebookEmbedding(np.arange(size), 8, subspaces=3, centroids=5, row_bits=row_bits)
            for size in (USERS, ITEMS)
        ]
    elif low_precision is not None:
        tables = [QuantizedEmbedding(size, 8, bits=low_precision) for size in (USERS, ITEMS)]
    elif compressed:
        # Two rows a group: users of one group share them.
        codes = np.arange(USERS) % (2 * GROUPS)
        tables = CodebookEmbedding(codes, 8, (codes + GROUPS) % (2 * GROUPS), bits=bits), tables[1]
    return build_model(
        method, dict(zip(("users", "items"), tables, strict=True)), planted_split() if split is None else split
    )


def weights(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
