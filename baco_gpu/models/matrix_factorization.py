"""Matrix factorisation: a score is the inner product of a user's and an item's embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor

from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.models.losses import BatchRows
from baco_gpu.models.model import ITEMS, USERS, Table
from baco_gpu.models.pairs import PairModel


class MatrixFactorization(PairModel, name="mf"):
    """Scores `<e_u, e_i>` of the embeddings themselves (Rendle et al., UAI 2009, arXiv 1205.2618, section 4.3.1).

    Parameters
    ----------
    user_embedding, item_embedding : EmbeddingTable or nn.Embedding
        Of the same width; may be sparse.
    """

    @classmethod
    def build(cls, tables: Mapping[str, Table], split: SplitInteractions, options: Any) -> Self:
        return cls(tables[USERS], tables[ITEMS])

    @property
    def scores_rows(self) -> bool:
        return type(self) is MatrixFactorization  # a model that is made of this one may score otherwise

    def representations(self) -> tuple[Tensor, Tensor]:
        """The two embedding tables, (num_users, dim) and (num_items, dim)."""
        return self.user_embedding.weight, self.item_embedding.weight

    def user_vectors(self, ids: Tensor) -> Tensor:
        """As of `Model`; users need not be floats all at once."""
        vectors: Tensor = self.user_embedding(ids)
        return vectors

    def item_vectors(self) -> Tensor:
        return self.item_embedding.weight

    def lookups(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        return self.user_embedding, self.item_embedding

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape; int64 tensors, one lookup each."""
        user_rows, item_rows = self.user_embedding(users), self.item_embedding(items)
        return BatchRows(user_rows, item_rows, user_rows, item_rows)

    def softmax_decay(self, density: float) -> float:
        """Of full tables validation recall on Beauty, Gowalla and MovieLens-100K (9, 23 and 61 interactions an id) is
        best near 0.3, 0.15 and 0.1; a power of the density comes near to that.
        """
        return min(0.9 / density**0.5, 0.3)
