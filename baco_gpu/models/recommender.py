"""What every model gives to training and evaluation, and takes from its embedding tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.tables.base import EmbeddingTable
from baco_gpu.tables.full import size_of

Table = nn.Embedding | EmbeddingTable


class BatchRows(NamedTuple):
    """What a loss reads of a model, for a batch of users and some items.

    Attributes
    ----------
    users, items : floating tensors of shape (batch, dim) and (*items, dim)
        Rows of `representations`: their inner products are the scores.
    initial_users, initial_items : floating tensors of the same shapes
        Rows of the embedding tables, which weight decay is on.
    """

    users: Tensor
    items: Tensor
    initial_users: Tensor
    initial_items: Tensor


class Recommender(nn.Module):
    """Base of the models: two embedding tables of one width, and scores that are inner products.

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
    def num_users(self) -> int:
        return self.user_embedding.num_embeddings

    @property
    def num_items(self) -> int:
        return self.item_embedding.num_embeddings

    @property
    def num_rows(self) -> int:
        """Rows that are trained: those of both tables, and of a codebook that both share once."""
        return size_of(self.user_embedding, self.item_embedding).rows

    def representations(self) -> tuple[Tensor, Tensor]:
        """The tables that scores are inner products of: (num_users, dim) and (num_items, dim)."""
        raise NotImplementedError

    def ranked(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """What a full ranking reads: a function of user ids that gives their rows, and the table of items."""
        users, items = self.representations()
        return users.__getitem__, items

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape; int64 tensors, all differentiable."""
        raise NotImplementedError
