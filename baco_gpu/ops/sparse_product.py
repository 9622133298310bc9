"""The product of a sparse matrix with a dense one, as an operator: what propagation over a graph consists of.

On a GPU it runs the kernels of codebook.cu, which give a row to a few threads and a long row to many, so that a hub of
the graph holds nothing up. Sums have a fixed order, there as on the CPU, though not the same one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu.errors import InputError
from baco_gpu.ops import kernels, segments
from baco_gpu.ops.dispatch import on_cuda


class SparseRows(NamedTuple):
    """A sparse matrix by rows: offsets of shape (rows + 1,), columns and values of shape (entries,)."""

    offsets: Tensor
    columns: Tensor
    values: Tensor

    def times(self, dense: Tensor, factor: float = 1.0) -> Tensor:
        """`factor` times the product with a dense matrix of shape (columns, dim)."""
        return gathered_sums(dense.detach(), self.offsets, self.columns, self._weights(dense, factor))

    def times_at(self, rows: Tensor, dense: Tensor, factor: float = 1.0) -> Tensor:
        """`times(dense, factor)[rows]`, to the bit, for rows of any shape; the others need not be added up."""
        weights = self._weights(dense, factor)
        sums = gathered_sums_at(dense.detach(), self.offsets, self.columns, weights, rows.reshape(-1))
        return sums.view(*rows.shape, dense.shape[1])

    def of_columns(self, wanted: Tensor) -> SparseRows:
        """The entries of some columns, bool of shape (columns,); waits for the device."""
        kept = wanted.index_select(0, self.columns)
        before = functional.pad(torch.cumsum(kept, 0, dtype=self.offsets.dtype), (1, 0))
        entries = kept.nonzero().squeeze(1)
        return SparseRows(
            before.index_select(0, self.offsets),
            self.columns.index_select(0, entries),
            self.values.index_select(0, entries),
        )

    def _weights(self, dense: Tensor, factor: float) -> Tensor:
        weights = self.values.to(dense.dtype)
        return weights if factor == 1.0 else weights * factor


@torch.library.custom_op(
    "baco_gpu::gathered_sums",
    mutates_args=(),
    schema="(Tensor table, Tensor offsets, Tensor columns, Tensor? weights) -> Tensor",
)
def gathered_sums(table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None) -> Tensor:
    """`segments.gathered_sums`, opaque to compilers; no gradient passes through it.

    Raises
    ------
    InputError
        When dtypes or devices do not fit. Columns out of range are the caller's fault, and not looked for.
    """
    _check(table, offsets, columns, weights)
    return segments.gathered_sums(table, offsets, columns, weights)


@torch.library.custom_op(
    "baco_gpu::gathered_sums_at",
    mutates_args=(),
    schema="(Tensor table, Tensor offsets, Tensor columns, Tensor? weights, Tensor rows) -> Tensor",
)
def gathered_sums_at(table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None, rows: Tensor) -> Tensor:
    """`segments.gathered_sums_at`, opaque to compilers; no gradient passes through it.

    Raises
    ------
    InputError
        As `gathered_sums` does. Rows out of range, too, are the caller's fault.
    """
    _check(table, offsets, columns, weights)
    return segments.gathered_sums_at(table, offsets, columns, weights, rows)


def _check(table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None) -> None:
    if table.ndim != 2 or table.dtype not in kernels.VALUES:
        raise InputError(f"table must be a floating matrix, got {table.dtype} of shape {tuple(table.shape)}")
    if offsets.dtype != columns.dtype or offsets.dtype not in (torch.int32, torch.int64):
        raise InputError(f"offsets and columns must both be int32 or int64, got {offsets.dtype} and {columns.dtype}")
    if weights is not None and (weights.dtype, weights.shape) != (table.dtype, columns.shape):
        raise InputError(
            f"weights must be {table.dtype} of shape {tuple(columns.shape)}, "
            f"got {weights.dtype} of shape {tuple(weights.shape)}"
        )
    others = {"offsets": offsets, "columns": columns} | ({} if weights is None else {"weights": weights})
    for name, tensor in others.items():
        if tensor.device != table.device:
            raise InputError(f"{name} must be on the device of the table, {table.device}, got {tensor.device}")


@gathered_sums.register_fake
def _(table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None) -> Tensor:
    return table.new_empty((offsets.shape[0] - 1, table.shape[1]))


@gathered_sums_at.register_fake
def _(table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None, rows: Tensor) -> Tensor:
    return table.new_empty((rows.shape[0], table.shape[1]))


gathered_sums.register_kernel("cuda")(on_cuda(_check, 4, kernels.gathered_sums, segments.gathered_sums))
gathered_sums_at.register_kernel("cuda")(on_cuda(_check, 4, kernels.gathered_sums_at, segments.gathered_sums_at))
