"""Matrix factorisation: a score is the inner product of a user's and an item's embedding."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from baco_gpu.models.recommender import BatchRows, Recommender


class MatrixFactorization(Recommender):
    """Scores `<e_u, e_i>` of the embeddings themselves (Rendle et al., UAI 2009, arXiv 1205.2618, section 4.3.1).

    Parameters
    ----------
    user_embedding, item_embedding : EmbeddingTable or nn.Embedding
        Of the same width; may be sparse.
    """

    def representations(self) -> tuple[Tensor, Tensor]:
        """The two embedding tables, (num_users, dim) and (num_items, dim)."""
        return self.user_embedding.weight, self.item_embedding.weight

    def ranked(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Lookups of users, who need not be floats all at once, and the table of items."""
        return self.user_embedding, self.item_embedding.weight

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape; int64 tensors, one lookup each."""
        user_rows, item_rows = self.user_embedding(users), self.item_embedding(items)
        return BatchRows(user_rows, item_rows, user_rows, item_rows)
