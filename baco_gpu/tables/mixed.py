"""A codebook whose ids mix many of its rows: their own, and the mean of those that they are near to."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baco_gpu.checks import check_number
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import NO_PADDING, look_up
from baco_gpu.ops.reference import check_range, decomposed
from baco_gpu.ops.segments import add_by_row_, widened
from baco_gpu.ops.sparse_product import SparseRows
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import Labels
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import Device, State
from baco_gpu.tables.facts import Facts


class MixedCodebookEmbedding(CodebookEmbedding, known_by={"secondary": 2}):
    """A `CodebookEmbedding` whose ids mix their own row with many secondary rows.

    Row `i` of the table is `own_share * codebook[assignment_i] + (1 - own_share) * mean_j codebook[secondary_ij]`. A
    row that appears several times weighs as much more; `baco_gpu.clustering.affinity.nearby_coclusters` fills them like
    this. With a codebook that users and items share, a user's secondary rows are those of the items that it chose.

    Parameters
    ----------
    assignments, embedding_dim : as of `CodebookEmbedding`
    secondary : integers of shape (num_embeddings, secondary rows), or (num_embeddings,) for one
        Further labels of every id, each as often as it weighs; -1 stands for the label of `assignments`. Must be given.
    own_share : float
        From 0 to 1.
    options
        Further arguments of `CodebookEmbedding`.

    Attributes
    ----------
    own_share : float
    secondary : int32 buffer of shape (num_embeddings, secondary rows)
    codebook, assignments, labels : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, when there are no secondary assignments, or the share is out of range.
    """

    secondary: Tensor

    says: ClassVar[Facts] = {**CodebookEmbedding.says, "own_share": float}
    _many = True
    _sums_rows = True

    @renamed_arguments(codes="assignments")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None,
        *,
        own_share: float = 0.5,
        **options: Any,
    ) -> None:
        own_share = check_number("own_share", own_share, minimum=0, maximum=1)
        if secondary is None:
            raise InputError("secondary must be given, for there is nothing to mix without it, got None")
        super().__init__(assignments, embedding_dim, secondary, **options)
        self.own_share = own_share

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> Self:
        if "own_share" not in {**cls.said_in(state), **options}:
            raise InputError("settings must give own_share, which this state does not tell, for rows that ids mix")
        return super().from_state(state, dim, **options)

    def _register_assignments(
        self, labels: np.ndarray, rows: np.ndarray, secondary: np.ndarray | None, device: Device
    ) -> None:
        second = rows if secondary is None else secondary
        super()._register_assignments(labels, rows, second.reshape(len(rows), -1), device)

    def _expanded(self) -> Tensor:
        if self._in_parts:
            return self._lookup(torch.arange(self.num_embeddings, device=self.assignments.device))
        settings = (self.own_share, self._padding, self.num_rows, self.codebook.dtype)
        mixture = self._kept.of("mixture", [self.assignments, self.secondary], settings, self._mixture)
        table: Tensor = _MixedTable.apply(self._rows(), mixture)
        return table

    def export_arrays(self) -> dict[str, Any]:
        return {**super().export_arrays(), "own_share": self.own_share}

    def row_parts(self) -> list[tuple[Tensor, Tensor | float]]:
        return [(column, share) for column, share in zip(self._columns().T.unbind(0), self._shares(), strict=True)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, secondary_rows={self.secondary.shape[1]}, own_share={self.own_share:g}"

    def _shares(self) -> list[float]:
        """Of the rows of an id, its own first."""
        count = self.secondary.shape[1]
        return [self.own_share] + [(1.0 - self.own_share) / count] * count

    def _columns(self) -> Tensor:
        """The rows of every id, its own first: (num_embeddings, 1 + secondary rows)."""
        return torch.cat((self.assignments.unsqueeze(1), self.secondary), dim=1)

    def _lookup(self, indices: Tensor) -> Tensor:
        rows, shares = self._rows(), self._shares()
        if self._in_parts:
            parts = zip(self._columns().T.contiguous().unbind(0), shares, strict=True)
            terms = [
                look_up(rows, column, None, indices, self._padding, sparse=self.sparse) * share
                for column, share in parts
            ]
            return torch.stack(terms).sum(0)
        flat = indices.reshape(-1)
        check_range("indices", flat, self.num_embeddings)
        lists = torch.cat((self.assignments[flat].unsqueeze(1), self.secondary[flat]), dim=1)
        mixed: Tensor = _MixedRows.apply(rows, lists, shares)
        if self.padding_idx is not None:
            mixed = mixed.masked_fill((flat == self.padding_idx).unsqueeze(1), 0)
        return mixed.view(*indices.shape, self.embedding_dim)

    @property
    def _in_parts(self) -> bool:
        """Whether every secondary row is looked up by itself."""
        return self.sparse or torch.compiler.is_compiling() or decomposed()

    def _mixture(self) -> _Mixture:
        return _Mixture.of(self._columns(), self._shares(), self.codebook, self._padding)


class _Mixture(NamedTuple):
    """What every id takes from the rows, and what every row gives to the ids: a sparse matrix and its transpose."""

    by_id: SparseRows
    by_row: SparseRows

    @classmethod
    def of(cls, columns: Tensor, shares: list[float], codebook: Tensor, padding_idx: int) -> _Mixture:
        width = columns.shape[1]
        values = _per_entry(columns, shares, codebook)
        if padding_idx != NO_PADDING:
            values.view(columns.shape)[padding_idx] = 0
        flat = columns.reshape(-1)
        order = torch.argsort(flat, stable=True)
        starts = torch.zeros(len(codebook) + 1, dtype=torch.int64, device=flat.device)
        starts[1:] = torch.bincount(flat, minlength=len(codebook)).cumsum(0)
        index = torch.int32 if len(flat) <= torch.iinfo(torch.int32).max else torch.int64
        ids = torch.div(order, width, rounding_mode="floor")
        return cls(
            SparseRows(_ends(columns, index), flat.to(index), values),
            SparseRows(starts.to(index), ids.to(index), values[order]),
        )


class _MixedTable(torch.autograd.Function):
    """The whole table: a product with the mixture, and with its transpose on the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mixture: _Mixture) -> Tensor:
        ctx.mixture = mixture
        return mixture.by_id.times(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.mixture.by_row.times(widened(grad)).to(grad.dtype), None


class _MixedRows(torch.autograd.Function):
    """Rows of `columns`, one list of them an id, mixed by their shares."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, shares: list[float]) -> Tensor:
        ctx.save_for_backward(columns)
        ctx.shares, ctx.num_rows = shares, len(rows)
        index = torch.int32 if columns.numel() <= torch.iinfo(torch.int32).max else torch.int64
        values = _per_entry(columns, shares, rows)
        return SparseRows(_ends(columns, index), columns.reshape(-1).to(index), values).times(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (columns,) = ctx.saved_tensors
        terms = widened(grad)
        total = terms.new_zeros((ctx.num_rows, grad.shape[1]))
        for column, share in zip(columns.unbind(1), ctx.shares, strict=True):
            add_by_row_(total, terms * share, column)
        return total.to(grad.dtype), None, None


def _per_entry(columns: Tensor, shares: list[float], like: Tensor) -> Tensor:
    """The share of every entry of `columns`, in the dtype of the rows."""
    return torch.tensor(shares, dtype=like.dtype, device=like.device).repeat(len(columns))


def _ends(columns: Tensor, index: torch.dtype) -> Tensor:
    """Where the entries of every line of `columns` begin and end."""
    count, width = columns.shape
    return torch.arange(count + 1, dtype=index, device=columns.device) * width
