"""What every model gives to training and evaluation, and takes from its embedding tables."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.checks import check_choice
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.errors import InputError

Table = nn.Embedding | CodebookEmbedding


SIMILARITIES = ("inner", "cosine")


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

    A model gives its tables and their rows (`_tables`, `_rows`); what a score is, is decided here.

    Parameters
    ----------
    user_embedding, item_embedding : nn.Embedding or CodebookEmbedding
    similarity : {"inner", "cosine"}
        Whether the representations are the model's rows as they are, or these divided by their lengths: then a score
        is a cosine.

    Raises
    ------
    InputError
        When the tables differ in width, or the similarity is unknown.
    """

    def __init__(self, user_embedding: Table, item_embedding: Table, similarity: str = "inner") -> None:
        super().__init__()
        check_choice("similarity", similarity, SIMILARITIES)
        self.similarity = similarity
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

    def representations(self) -> tuple[Tensor, Tensor]:
        """The tables that scores are inner products of: (num_users, dim) and (num_items, dim)."""
        users, items = self._tables()
        return self._measured(users), self._measured(items)

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape; int64 tensors, all differentiable."""
        found = self._rows(users, items)
        return found._replace(users=self._measured(found.users), items=self._measured(found.items))

    def _measured(self, rows: Tensor) -> Tensor:
        return rows if self.similarity == "inner" else functional.normalize(rows, dim=-1)

    def _tables(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _rows(self, users: Tensor, items: Tensor) -> BatchRows:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"similarity={self.similarity}"
