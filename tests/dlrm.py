"""A click model in the manner of DLRM (Naumov et al., arXiv 1906.00091): tables, pairwise products, a small network.

It stands for a model that somebody else wrote: it knows nothing of codebooks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu import BipartiteGraph
from baco_gpu.data.synthetic import planted_coclusters

HOURS = 24


class DLRM(nn.Module):
    """Users, items and hours as ids, in columns 0 to 2; whether there was a click in column 3."""

    def __init__(self, num_users: int, num_items: int, dim: int = 8) -> None:
        super().__init__()
        sizes = {"user": num_users, "item": num_items, "hour": HOURS}
        self.tables = nn.ModuleDict({name: nn.Embedding(size, dim) for name, size in sizes.items()})
        self.top = nn.Sequential(nn.Linear(3 * dim + 3, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, ids: Tensor) -> Tensor:
        features = [table(ids[:, column]) for column, table in enumerate(self.tables.values())]
        products = [(features[a] * features[b]).sum(1, keepdim=True) for a, b in ((0, 1), (0, 2), (1, 2))]
        return self.top(torch.cat((*features, *products), dim=1)).squeeze(1)


def logistic_loss(model: nn.Module, rows: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(model(rows[:, :3]), rows[:, 3].float())


def clicks(seed: int, num_users: int = 200, num_items: int = 120) -> tuple[Tensor, BipartiteGraph]:
    """Rows (user, item, hour, click), as many clicks as not; and the graph of the clicks."""
    found, _, _ = planted_coclusters(num_users, num_items, 2500, 8, noise=0.05, seed=seed)
    graph = BipartiteGraph.from_interactions(found)
    generator = np.random.default_rng(seed)
    users = np.concatenate([found.users, generator.integers(0, num_users, len(found.users))])
    items = np.concatenate([found.items, generator.integers(0, num_items, len(found.items))])
    clicked = np.repeat([1, 0], len(found.users))
    rows = np.column_stack([users, items, generator.integers(0, HOURS, len(users)), clicked])
    return torch.as_tensor(generator.permutation(rows)), graph
