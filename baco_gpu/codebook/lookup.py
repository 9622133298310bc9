"""The codebook lookup as an operator of its own: `baco_gpu::codebook_lookup` and its gradient.

Both are registered with `torch.library`, with shape functions and autograd, so that `torch.compile`, autocast and
distributed training treat them as one opaque node, and so that a kernel for one device can replace the plain PyTorch
implementation below (`codebook_lookup.register_kernel("cuda")`) without a change anywhere else.

The gradient adds up in an order that depends on the indices alone, never on threads: the same call gives the same bits.
On the CPU that is `index_add_`, which sorts stably and gives every row to one thread; it was the fastest of the
deterministic ways (`embedding_dense_backward`, a sorted segment sum and a sparse product with a matrix that must be
built first all took longer). On a GPU `index_add_` adds atomically, so there it is `embedding_dense_backward`, which
sorts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu.errors import InputError

NO_PADDING = -1


@torch.library.custom_op(
    "baco_gpu::codebook_lookup",
    mutates_args=(),
    schema="(Tensor codebook, Tensor codes, Tensor? secondary, Tensor? indices, int padding_idx) -> Tensor",
)
def codebook_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int
) -> Tensor:
    """Rows of the expanded table: `codebook[codes[i]]`, or its mean with `codebook[secondary[i]]`.

    Parameters
    ----------
    codebook : floating tensor of shape (rows, dim)
    codes : int32 or int64 tensor of shape (n,), values in [0, rows)
    secondary : as `codes`, or None
    indices : int32 or int64 tensor of any shape, values in [0, n), or None for all of 0..n-1
    padding_idx : int
        The index whose row is zero and gets no gradient; `NO_PADDING` for none.

    Returns
    -------
    Tensor of shape (*indices.shape, dim), in the dtype of the codebook.

    Raises
    ------
    InputError
        On the CPU, when an index is out of range. A GPU would have to be waited for: its own assertion fires instead.
    """
    flat = None if indices is None else indices.reshape(-1)
    if flat is not None and flat.device.type == "cpu":
        _check_range(flat, codes.shape[0])
    out = codebook.index_select(0, _select(codes, flat))
    if secondary is not None:
        out.add_(codebook.index_select(0, _select(secondary, flat))).mul_(0.5)
    if padding_idx != NO_PADDING:
        if flat is None:
            out[padding_idx] = 0
        else:
            out.masked_fill_((flat == padding_idx).unsqueeze(1), 0)
    return out if indices is None else out.view(*indices.shape, codebook.shape[1])


@torch.library.custom_op(
    "baco_gpu::codebook_gradient",
    mutates_args=(),
    schema=("(Tensor grad, Tensor codes, Tensor? secondary, Tensor? indices, int padding_idx, int rows) -> Tensor"),
)
def codebook_gradient(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int, rows: int
) -> Tensor:
    """The gradient of `codebook_lookup` by the codebook: (rows, dim), given `grad` of the shape that the lookup gave.

    Sums of half-precision gradients are taken in float32 and rounded once.
    """
    flat = None if indices is None else indices.reshape(-1)
    # Spelled out rather than -1, which an empty gradient would leave undetermined.
    terms = grad.reshape(codes.shape[0] if flat is None else flat.shape[0], grad.shape[-1])
    if padding_idx != NO_PADDING:
        if flat is None:
            terms = terms.clone()
            terms[padding_idx] = 0
        else:
            terms = terms.masked_fill((flat == padding_idx).unsqueeze(1), 0)
    wide = terms.float() if terms.dtype in (torch.float16, torch.bfloat16) else terms
    total = _sum_by_row(wide, _select(codes, flat), rows)
    if secondary is not None:
        total = total.add_(_sum_by_row(wide, _select(secondary, flat), rows)).mul_(0.5)
    return total.to(grad.dtype)


def sparse_codebook_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int
) -> Tensor:
    """`codebook_lookup` whose gradient is a sparse COO tensor of the rows touched, for `torch.optim.SparseAdam`."""
    if indices is not None and indices.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_range(indices.reshape(-1), codes.shape[0])
    chosen = codes if indices is None else codes[indices]
    out = functional.embedding(chosen, codebook, sparse=True)
    if secondary is not None:
        out = (
            out + functional.embedding(secondary if indices is None else secondary[indices], codebook, sparse=True)
        ) * 0.5
    if padding_idx != NO_PADDING:
        positions = torch.arange(codes.shape[0], device=codes.device) if indices is None else indices
        out = out.masked_fill((positions == padding_idx).unsqueeze(-1), 0)
    return out


def _select(values: Tensor, flat: Tensor | None) -> Tensor:
    return values if flat is None else values.index_select(0, flat)


def _sum_by_row(terms: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sum of the terms of every row, (rows, dim), in an order that only `row` determines."""
    if terms.device.type == "cpu":
        return terms.new_zeros((rows, terms.shape[1])).index_add_(0, row, terms)
    return torch.ops.aten.embedding_dense_backward(terms, row, rows, -1, False)


def _check_range(flat: Tensor, count: int) -> None:
    if flat.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(flat))
    if low < 0 or high >= count:
        raise InputError(f"indices must be from 0 to {count - 1}, got {low if low < 0 else high}")


@codebook_lookup.register_fake
def _(codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int) -> Tensor:
    shape = codes.shape if indices is None else indices.shape
    return codebook.new_empty((*shape, codebook.shape[1]))


@codebook_gradient.register_fake
def _(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int, rows: int
) -> Tensor:
    return grad.new_empty((rows, grad.shape[-1]))


def _save_lookup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    codebook, codes, secondary, indices, padding_idx = inputs
    ctx.save_for_backward(codes, secondary, indices)
    ctx.padding_idx, ctx.rows = padding_idx, codebook.shape[0]


def _differentiate_lookup(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, secondary, indices = ctx.saved_tensors
    return codebook_gradient(grad, codes, secondary, indices, ctx.padding_idx, ctx.rows), None, None, None, None


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, secondary, indices, padding_idx, _ = inputs
    ctx.save_for_backward(codes, secondary, indices)
    ctx.padding_idx = padding_idx


def _differentiate_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # Summing by row and looking rows up are transposes of each other.
    codes, secondary, indices = ctx.saved_tensors
    return codebook_lookup(grad, codes, secondary, indices, ctx.padding_idx), None, None, None, None, None


codebook_lookup.register_autograd(_differentiate_lookup, setup_context=_save_lookup)
codebook_gradient.register_autograd(_differentiate_gradient, setup_context=_save_gradient)
