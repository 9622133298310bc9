"""What models over a table of users and one of items have in common: triples, and the rows that they read."""

from __future__ import annotations

import torch
from torch import Tensor

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models.losses import BPR, BatchRows, Objective
from baco_gpu.models.model import ITEMS, USERS, Model, Table
from baco_gpu.models.sampling import TripleSampler


class PairModel(Model):
    """Scores of pairs of a user and an item, each of which has a row: two tables of one width.

    Parameters
    ----------
    user_embedding, item_embedding : EmbeddingTable or nn.Embedding

    Raises
    ------
    InputError
        When the tables differ in width.
    """

    def __init__(self, user_embedding: Table, item_embedding: Table) -> None:
        super().__init__()
        if user_embedding.embedding_dim != item_embedding.embedding_dim:
            raise InputError(
                "user and item embeddings must have the same embedding_dim, got "
                f"{user_embedding.embedding_dim} and {item_embedding.embedding_dim}"
            )
        self.user_embedding = user_embedding
        self.item_embedding = item_embedding

    @property
    def tables(self) -> dict[str, Table]:
        return {USERS: self.user_embedding, ITEMS: self.item_embedding}

    def representations(self) -> tuple[Tensor, Tensor]:
        """The vectors of all users and of all items, (num_users, dim) and (num_items, dim)."""
        raise NotImplementedError

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape; int64 tensors, all differentiable."""
        raise NotImplementedError

    def softmax_decay(self, density: float) -> float:
        """The softmax's weight decay of full tables, at so many interactions an id."""
        raise NotImplementedError

    def user_vectors(self, ids: Tensor) -> Tensor:
        return self.representations()[0][ids]

    def item_vectors(self) -> Tensor:
        return self.representations()[1]

    def loss(self, batch: Tensor, objective: Objective = Objective()) -> Tensor:  # noqa: B008 (immutable)
        """The objective on triples, (3, batch): users, the items that they chose, and one each that they did not."""
        users, chosen, others = batch
        return objective(self.rows(users, objective.items_of(chosen, others)))

    def sampler(
        self, split: SplitInteractions, *, batch_size: int, seed: int, device: torch.device | str = "cpu"
    ) -> TripleSampler:
        return TripleSampler(split.train, batch_size, seed=seed, device=device)

    def default_weight_decay(self, loss: str, train: Interactions) -> float:
        """1e-4 with "bpr", as in LightGCN; by model, density and rows with "softmax".

        The fewer interactions an id has, the shorter its rows must be kept (see `softmax_decay` of the models). Rows
        that many ids share are held by sharing already, and get half.
        """
        if loss == BPR:
            return 1e-4
        ids = max(train.num_users + train.num_items, 1)
        own = self.softmax_decay(max(2 * len(train) / ids, 1))
        return float(own * (1 + self.num_rows / ids) / 2)
