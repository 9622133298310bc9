"""Matrix factorisation: a score is the inner product of a user's and an item's embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from baco_gpu.models.recommender import BprTerms, Recommender, half_squared_norm


class MatrixFactorization(Recommender):
    """Scores `<e_u, e_i>`, trained with BPR (Rendle et al., UAI 2009, arXiv 1205.2618).

    Parameters
    ----------
    user_embedding, item_embedding : nn.Embedding or CodebookEmbedding
        Of the same width; may be sparse.
    """

    def representations(self) -> tuple[Tensor, Tensor]:
        """The two embedding tables, (num_users, dim) and (num_items, dim)."""
        return self.user_embedding.weight, self.item_embedding.weight

    def bpr_batch(self, users: Tensor, positives: Tensor, negatives: Tensor) -> BprTerms:
        """Scores and penalty of a batch of triples, each an int64 tensor of shape (batch,)."""
        user_rows = self.user_embedding(users)
        item_rows = self.item_embedding(torch.stack((positives, negatives)))  # one lookup, so one gradient
        scores = (user_rows * item_rows).sum(-1)
        return BprTerms(scores[0], scores[1], half_squared_norm(user_rows, item_rows))
