"""A codebook whose ids weigh the two rows that they share, each in its own way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from baco_gpu.checks import check_number, shown
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import look_up
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import Labels, carried
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import Device, StoredPart


class WeightedCodebookEmbedding(CodebookEmbedding, known_by={"shares": 2}):
    """A `CodebookEmbedding` in which an id is a weighted sum of its two rows, in place of their mean.

    Row `i` of the expanded table is `shares[i, 0] * codebook[assignment_i] + shares[i, 1] * codebook[secondary_i]`. No
    gradient reaches the shares: who knows better ones writes them into the buffer, as LEGCF does between epochs
    (arXiv 2403.18479).

    Parameters
    ----------
    assignments, embedding_dim, secondary : as of `CodebookEmbedding`
        Secondary assignments must be given.
    shares : pair of float
        What every id starts with.
    options
        Further arguments of `CodebookEmbedding`.

    Attributes
    ----------
    shares : floating buffer of shape (num_embeddings, 2), in the dtype of the codebook
    codebook, assignments, secondary, labels : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when there are no secondary assignments.
    """

    shares: Tensor
    secondary: Tensor

    _sums_rows = True

    @renamed_arguments(codes="assignments")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None,
        *,
        shares: tuple[float, float] = (0.5, 0.5),
        **options: Any,
    ) -> None:
        if secondary is None:
            raise InputError("secondary must be given, for it is two rows that are weighed, got None")
        pair = [*shares] if isinstance(shares, list | tuple) else []
        if len(pair) != 2:
            raise InputError(f"shares must be a pair of numbers, got {shown(shares)}")
        pair = [check_number("shares", share) for share in pair]
        super().__init__(assignments, embedding_dim, secondary, **options)
        self.shares[:] = self.shares.new_tensor(pair)

    def _register_assignments(
        self, labels: np.ndarray, rows: np.ndarray, secondary: np.ndarray | None, device: Device
    ) -> None:
        super()._register_assignments(labels, rows, rows if secondary is None else secondary, device)
        if "shares" not in self._buffers:
            self.register_buffer("shares", self.codebook.detach().new_full((len(rows), 2), 0.5))

    def _carry(self, places: np.ndarray) -> None:
        """Ids keep their shares, new ones are the mean of their rows."""
        means = self.shares.new_full((self.num_embeddings, 2), 0.5)
        self.register_buffer("shares", carried(self.shares, places, means))

    def _expanded(self) -> Tensor:
        return self._lookup(torch.arange(self.num_embeddings, device=self.assignments.device))

    def row_parts(self) -> list[tuple[Tensor, Tensor | float]]:
        return [(self.assignments, self.shares[:, :1]), (self.secondary, self.shares[:, 1:])]

    def pair_shares(self) -> Tensor:
        return self.shares

    def set_pair_shares(self, shares: Tensor) -> None:
        self.shares.copy_(shares)

    def stored(self) -> list[StoredPart]:
        """As of `CodebookEmbedding`, and the two weights of every id."""
        return [*super().stored(), StoredPart(self.shares, self.shares.numel(), self.shares.nbytes)]

    def check_export(self) -> None:
        raise InputError("a table must be a mean of rows to be served, got a WeightedCodebookEmbedding")

    def _lookup(self, indices: Tensor) -> Tensor:
        first, second = (
            look_up(self._rows(), rows, None, indices, self._padding, sparse=self.sparse)
            for rows in (self.assignments, self.secondary)
        )
        shares = self.shares[indices]
        return shares[..., :1] * first + shares[..., 1:] * second
