"""The codebook's two operators and their gradients: a lookup of indices, and the expansion of the whole table.

They are registered with `torch.library`, with shape functions and autograd, so that `torch.compile`, autocast and
distributed training treat each as one opaque node, and so that a kernel for one device can replace the plain PyTorch
implementation below (`codebook_lookup.register_kernel("cuda")`) without a change anywhere else.

Gradients are sums over all ids that share a row, and deterministic: see `segments`. The members of every row are the
same in each expansion, so they are listed once, and its gradient gathers where the lookup's has to scatter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu.codebook.segments import add_by_row_, gathered_sums, widened
from baco_gpu.errors import InputError

NO_PADDING = -1


class Members(NamedTuple):
    """The ids that each row of a codebook serves: `ids[offsets[r]:offsets[r + 1]]`, without the padding index.

    An id with two rows is listed under both; where they are one, twice under it.
    """

    offsets: Tensor
    ids: Tensor


def list_members(codes: Tensor, secondary: Tensor | None, padding_idx: int, rows: int) -> Members:
    """The members of every row, ascending, as int32 tensors (int64 where an offset needs it)."""
    count = len(codes)
    owners = codes if secondary is None else torch.cat((codes, secondary))
    ids = torch.arange(count, device=codes.device).repeat(1 if secondary is None else 2)
    if padding_idx != NO_PADDING:
        real = ids != padding_idx
        owners, ids = owners[real], ids[real]
    order = torch.argsort(owners, stable=True)
    offsets = torch.zeros(rows + 1, dtype=torch.int64, device=codes.device)
    offsets[1:] = torch.bincount(owners, minlength=rows).cumsum(0)
    index = torch.int32 if len(ids) <= torch.iinfo(torch.int32).max else torch.int64
    return Members(offsets.to(index), ids[order].to(index))


@torch.library.custom_op(
    "baco_gpu::codebook_lookup",
    mutates_args=(),
    schema="(Tensor codebook, Tensor codes, Tensor? secondary, Tensor indices, int padding_idx) -> Tensor",
)
def codebook_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int
) -> Tensor:
    """Embeddings of indices: `codebook[codes[i]]`, or its mean with `codebook[secondary[i]]`.

    Parameters
    ----------
    codebook : floating tensor of shape (rows, dim)
    codes : int32 or int64 tensor of shape (n,), values in [0, rows)
    secondary : as `codes`, or None
    indices : int32 or int64 tensor of any shape, values in [0, n)
    padding_idx : int
        The index whose embedding is zero and gets no gradient; `NO_PADDING` for none.

    Returns
    -------
    Tensor of shape (*indices.shape, dim), in the dtype of the codebook.

    Raises
    ------
    InputError
        On the CPU, when an index is out of range. A GPU would have to be waited for: its own assertion fires instead.
    """
    flat = indices.reshape(-1)
    _check_range(flat, len(codes))
    second = None if secondary is None else secondary.index_select(0, flat)
    out = _mean_rows(codebook, codes.index_select(0, flat), second)
    if padding_idx != NO_PADDING:
        out.masked_fill_((flat == padding_idx).unsqueeze(1), 0)
    return out.view(*indices.shape, codebook.shape[1])


@torch.library.custom_op(
    "baco_gpu::codebook_lookup_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor codes, Tensor? secondary, Tensor indices, int padding_idx, int rows) -> Tensor",
)
def codebook_lookup_gradient(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> Tensor:
    """The gradient of `codebook_lookup` by the codebook, (rows, dim), from `grad` of the shape that the lookup gave."""
    flat = indices.reshape(-1)
    # Spelled out rather than -1, which an empty gradient would leave undetermined.
    terms = widened(grad.reshape(len(flat), grad.shape[-1]))
    if padding_idx != NO_PADDING:
        terms = terms.masked_fill((flat == padding_idx).unsqueeze(1), 0)
    total = terms.new_zeros((rows, grad.shape[-1]))
    add_by_row_(total, terms, codes.index_select(0, flat))
    if secondary is not None:
        add_by_row_(total, terms, secondary.index_select(0, flat)).mul_(0.5)
    return total.to(grad.dtype)


@torch.library.custom_op(
    "baco_gpu::codebook_expand",
    mutates_args=(),
    schema=(
        "(Tensor codebook, Tensor codes, Tensor? secondary, int padding_idx, Tensor offsets, Tensor ids) -> Tensor"
    ),
)
def codebook_expand(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    """The whole table, (n, dim): `codebook_lookup` of 0..n-1, with a gradient that reads the `Members` of each row.

    Parameters
    ----------
    codebook, codes, secondary, padding_idx : as of `codebook_lookup`
    offsets, ids : as `list_members` gives them
    """
    out = _mean_rows(codebook, codes, secondary)
    if padding_idx != NO_PADDING:
        out[padding_idx] = 0
    return out


@torch.library.custom_op(
    "baco_gpu::codebook_collapse",
    mutates_args=(),
    schema=("(Tensor grad, Tensor codes, Tensor? secondary, int padding_idx, Tensor offsets, Tensor ids) -> Tensor"),
)
def codebook_collapse(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    """The gradient of `codebook_expand` by the codebook, (rows, dim), from `grad` of shape (n, dim)."""
    total = gathered_sums(widened(grad), offsets, ids)
    return (total if secondary is None else total.mul_(0.5)).to(grad.dtype)


def sparse_codebook_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int
) -> Tensor:
    """`codebook_lookup` whose gradient is a sparse COO tensor of the rows touched, for `torch.optim.SparseAdam`."""
    if not torch.compiler.is_compiling():
        _check_range(indices.reshape(-1), len(codes))
    out = functional.embedding(codes[indices], codebook, sparse=True)
    if secondary is not None:
        out = (out + functional.embedding(secondary[indices], codebook, sparse=True)) * 0.5
    if padding_idx != NO_PADDING:
        out = out.masked_fill((indices == padding_idx).unsqueeze(-1), 0)
    return out


def _mean_rows(codebook: Tensor, first: Tensor, second: Tensor | None) -> Tensor:
    rows = codebook.index_select(0, first)
    return rows if second is None else rows.add_(codebook.index_select(0, second)).mul_(0.5)


def _check_range(flat: Tensor, count: int) -> None:
    if flat.numel() == 0 or flat.device.type != "cpu":
        return
    low, high = (int(bound) for bound in torch.aminmax(flat))
    if low < 0 or high >= count:
        raise InputError(f"indices must be from 0 to {count - 1}, got {low if low < 0 else high}")


@codebook_lookup.register_fake
def _(codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int) -> Tensor:
    return codebook.new_empty((*indices.shape, codebook.shape[1]))


@codebook_lookup_gradient.register_fake
def _(grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int) -> Tensor:
    return grad.new_empty((rows, grad.shape[-1]))


@codebook_expand.register_fake
def _(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    return codebook.new_empty((codes.shape[0], codebook.shape[1]))


@codebook_collapse.register_fake
def _(grad: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor) -> Tensor:
    return grad.new_empty((offsets.shape[0] - 1, grad.shape[-1]))


def _save_lookup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    table, codes, secondary, indices, ctx.padding_idx = inputs[:5]
    ctx.rows = len(table)
    ctx.save_for_backward(codes, secondary, indices)


def _differentiate_lookup(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, secondary, indices = ctx.saved_tensors
    gradient = codebook_lookup_gradient(grad, codes, secondary, indices, ctx.padding_idx, ctx.rows)
    return gradient, None, None, None, None


def _differentiate_lookup_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # Summing by row and looking rows up are transposes of each other.
    codes, secondary, indices = ctx.saved_tensors
    return codebook_lookup(grad, codes, secondary, indices, ctx.padding_idx), None, None, None, None, None


def _save_expand(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, secondary, ctx.padding_idx, offsets, ids = inputs
    ctx.save_for_backward(codes, secondary, offsets, ids)


def _differentiate_expand(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, secondary, offsets, ids = ctx.saved_tensors
    return codebook_collapse(grad, codes, secondary, ctx.padding_idx, offsets, ids), None, None, None, None, None


def _differentiate_collapse(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, secondary, offsets, ids = ctx.saved_tensors
    return codebook_expand(grad, codes, secondary, ctx.padding_idx, offsets, ids), None, None, None, None, None


codebook_lookup.register_autograd(_differentiate_lookup, setup_context=_save_lookup)
codebook_lookup_gradient.register_autograd(_differentiate_lookup_gradient, setup_context=_save_lookup)
codebook_expand.register_autograd(_differentiate_expand, setup_context=_save_expand)
codebook_collapse.register_autograd(_differentiate_collapse, setup_context=_save_expand)
