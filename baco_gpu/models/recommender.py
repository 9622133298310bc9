"""What every model gives to training and evaluation, and takes from its embedding tables."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.errors import InputError

Table = nn.Embedding | CodebookEmbedding


class BprTerms(NamedTuple):
    """What the loss of Bayesian personalised ranking is made of, for a batch of triples.

    Attributes
    ----------
    positive, negative : tensors of shape (batch,)
        Scores of the item that the user chose, and of the one it did not.
    penalty : scalar tensor
        Half the squared norm of the initial (not propagated) rows of the batch, over the batch size: the term that
        the weight decay multiplies, in the LightGCN authors' convention.
    """

    positive: Tensor
    negative: Tensor
    penalty: Tensor


class Recommender(nn.Module):
    """Base of the models: two embedding tables of one width, and scores that are inner products.

    Parameters
    ----------
    user_embedding, item_embedding : nn.Embedding or CodebookEmbedding

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

    def representations(self) -> tuple[Tensor, Tensor]:
        """The tables that scores are inner products of: (num_users, dim) and (num_items, dim)."""
        raise NotImplementedError

    def bpr_batch(self, users: Tensor, positives: Tensor, negatives: Tensor) -> BprTerms:
        """Scores and penalty of a batch of triples, each an int64 tensor of shape (batch,)."""
        raise NotImplementedError


def half_squared_norm(users: Tensor, items: Tensor) -> Tensor:
    """Half the squared norm of the rows of a batch over its size; (batch, dim) and (2, batch, dim) to a scalar."""
    return (users.square().sum() + items.square().sum()) / (2 * max(len(users), 1))
