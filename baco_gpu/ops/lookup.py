"""The codebook's operators and their gradients: a lookup of indices, and the expansion of the whole table.

They are registered with `torch.library`, with shape functions and autograd, so that `torch.compile`, autocast and
distributed training treat each as one opaque node. On a GPU they run the kernels of codebook.cu (see `kernels`) where
CuPy is installed, and elsewhere plain PyTorch (see `reference`); `dispatch` has the rule.

Gradients are sums over all ids that share a row, and deterministic: see `segments`. The members of every row are the
same in each expansion, so they are listed once, and its gradient gathers where the lookup's has to sort or scatter.
Both sides add up the terms of a row one after another in the order of the batch, first codes before second ones, in
float32 at least, and round once: the CPU and the kernels give equal bits up to `kernels.PIECE` terms a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from baco_gpu.errors import InputError
from baco_gpu.ops import kernels, reference
from baco_gpu.ops.dispatch import on_cuda
from baco_gpu.ops.reference import NO_PADDING

_INTEGERS = (torch.int32, torch.int64)


class RowMembers(NamedTuple):
    """The ids that each row of a codebook serves: `ids[offsets[r]:offsets[r + 1]]`, without the padding index.

    An id with two rows is listed under both; where they are one, twice under it.
    """

    offsets: Tensor
    ids: Tensor


def list_members(codes: Tensor, secondary: Tensor | None, padding_idx: int, rows: int) -> RowMembers:
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
    return RowMembers(offsets.to(index), ids[order].to(index))


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
        When shapes, dtypes or devices do not fit; on the CPU, when an index or its code is out of range. On a GPU that
        check would have to wait for the device: there the embedding of such an index is NaN (PyTorch's own operations,
        where they run, end with an assertion), and nothing outside the tensors is read.
    """
    _check_lookup(codebook, codes, secondary, indices)
    return reference.lookup(codebook, codes, secondary, indices, padding_idx)


@torch.library.custom_op(
    "baco_gpu::codebook_lookup_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor codes, Tensor? secondary, Tensor indices, int padding_idx, int rows) -> Tensor",
)
def codebook_lookup_gradient(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> Tensor:
    """The gradient of `codebook_lookup` by the codebook, (rows, dim), from `grad` of the shape that the lookup gave."""
    _check_gradient(grad, codes, secondary, indices)
    return reference.lookup_gradient(grad, codes, secondary, indices, padding_idx, rows)


@torch.library.custom_op(
    "baco_gpu::codebook_lookup_row_gradients",
    mutates_args=(),
    schema=(
        "(Tensor grad, Tensor codes, Tensor? secondary, Tensor indices, int padding_idx, int rows) -> (Tensor, Tensor)"
    ),
)
def codebook_lookup_row_gradients(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> tuple[Tensor, Tensor]:
    """What is not zero in `codebook_lookup_gradient`: the rows touched, int64 and ascending, and their gradients."""
    _check_gradient(grad, codes, secondary, indices)
    return reference.lookup_row_gradients(grad, codes, secondary, indices, padding_idx, rows)


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
    """The whole table, (n, dim): `codebook_lookup` of 0..n-1, with a gradient that reads the `RowMembers` of each row.

    Parameters
    ----------
    codebook, codes, secondary, padding_idx : as of `codebook_lookup`
    offsets, ids : as `list_members` gives them
    """
    _check_expansion(codebook, codes, secondary, padding_idx, offsets, ids)
    return reference.expand(codebook, codes, secondary, padding_idx, offsets, ids)


@torch.library.custom_op(
    "baco_gpu::codebook_collapse",
    mutates_args=(),
    schema=("(Tensor grad, Tensor codes, Tensor? secondary, int padding_idx, Tensor offsets, Tensor ids) -> Tensor"),
)
def codebook_collapse(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    """The gradient of `codebook_expand` by the codebook, (rows, dim), from `grad` of shape (n, dim)."""
    _check_expansion(grad, codes, secondary, padding_idx, offsets, ids)
    return reference.collapse(grad, codes, secondary, padding_idx, offsets, ids)


def look_up(
    codebook: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    indices: Tensor,
    padding_idx: int,
    *,
    sparse: bool = False,
) -> Tensor:
    """`codebook_lookup` or, with `sparse`, `sparse_codebook_lookup`, as far as what runs them knows these.

    DistributedDataParallel takes sparse gradients of `nn.Embedding` alone, and so gradients are dense under it. Under
    `torch.func`, and where a model is exported to ONNX, lookups are PyTorch's own operators.
    """
    if reference.decomposed():
        return reference.plain_lookup(codebook, codes, secondary, indices, padding_idx)
    if sparse and not reference.in_processes():
        return sparse_codebook_lookup(codebook, codes, secondary, indices, padding_idx)
    return codebook_lookup(codebook, codes, secondary, indices, padding_idx)


def sparse_codebook_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int
) -> Tensor:
    """`codebook_lookup` whose gradient is a sparse COO tensor of the rows touched, for `torch.optim.SparseAdam`.

    Every row is in it once, summed up. On a GPU its backward pass waits for the device, which knows how many there are.
    """
    out: Tensor = _SparseLookup.apply(codebook, codes, secondary, indices, padding_idx)
    return out


class _SparseLookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int
    ) -> Tensor:
        _save_lookup(ctx, (codebook, codes, secondary, indices, padding_idx), codebook)
        return codebook_lookup(codebook, codes, secondary, indices, padding_idx)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        codes, secondary, indices = ctx.saved_tensors
        rows, sums = codebook_lookup_row_gradients(grad, codes, secondary, indices, ctx.padding_idx, ctx.rows)
        shape = (ctx.rows, grad.shape[-1])
        gradient = torch.sparse_coo_tensor(rows.unsqueeze(0), sums, shape, is_coalesced=True, check_invariants=False)
        return gradient, None, None, None, None


def _check_lookup(table: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor) -> None:
    if table.ndim != 2 or table.dtype not in kernels.VALUES:
        raise InputError(
            f"codebook must be a matrix of {_names(kernels.VALUES)}, got {table.dtype} of shape {tuple(table.shape)}"
        )
    _check_codes(table, codes, secondary, {"indices": indices})


def _check_gradient(grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor) -> None:
    if grad.dtype not in kernels.VALUES or grad.shape[:-1] != indices.shape or grad.ndim == 0:
        raise InputError(
            f"grad must be of {_names(kernels.VALUES)} and have the shape of the indices {tuple(indices.shape)} and "
            f"one dimension more, got {grad.dtype} of shape {tuple(grad.shape)}"
        )
    _check_codes(grad, codes, secondary, {"indices": indices})


def _check_expansion(
    table: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> None:
    if table.ndim != 2 or table.dtype not in kernels.VALUES:
        raise InputError(
            f"expected a matrix of {_names(kernels.VALUES)}, got {table.dtype} of shape {tuple(table.shape)}"
        )
    if offsets.dtype != ids.dtype:
        raise InputError(f"offsets and ids must have one dtype, got {offsets.dtype} and {ids.dtype}")
    _check_codes(table, codes, secondary, {"offsets": offsets, "ids": ids})


def _check_codes(table: Tensor, codes: Tensor, secondary: Tensor | None, others: dict[str, Tensor]) -> None:
    """Cheap checks of what a kernel would read wrongly; none of them looks at a value."""
    second = {} if secondary is None else {"secondary": secondary}
    for name, tensor in ({"codes": codes} | second | others).items():
        if tensor.dtype not in _INTEGERS:
            raise InputError(f"{name} must be an int32 or int64 tensor, got {tensor.dtype}")
        if tensor.device != table.device:
            raise InputError(f"{name} must be on the device of the codebook, {table.device}, got {tensor.device}")
    if codes.ndim != 1:
        raise InputError(f"codes must have one dimension, got shape {tuple(codes.shape)}")
    if secondary is not None and (secondary.shape, secondary.dtype) != (codes.shape, codes.dtype):
        raise InputError(
            f"secondary must be as codes, {codes.dtype} of shape {tuple(codes.shape)}, "
            f"got {secondary.dtype} of shape {tuple(secondary.shape)}"
        )


def _names(dtypes: Any) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


@codebook_lookup.register_fake
def _(codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int) -> Tensor:
    return codebook.new_empty((*indices.shape, codebook.shape[1]))


@codebook_lookup_gradient.register_fake
def _(grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int) -> Tensor:
    return grad.new_empty((rows, grad.shape[-1]))


@codebook_lookup_row_gradients.register_fake
def _(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> tuple[Tensor, Tensor]:
    touched = torch.library.get_ctx().new_dynamic_size()
    return codes.new_empty(touched, dtype=torch.int64), grad.new_empty((touched, grad.shape[-1]))


@codebook_expand.register_fake
def _(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    return codebook.new_empty((codes.shape[0], codebook.shape[1]))


@codebook_collapse.register_fake
def _(grad: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor) -> Tensor:
    return grad.new_empty((offsets.shape[0] - 1, grad.shape[-1]))


codebook_lookup.register_kernel("cuda")(on_cuda(_check_lookup, 4, kernels.lookup, reference.lookup))
codebook_lookup_gradient.register_kernel("cuda")(
    on_cuda(_check_gradient, 4, kernels.lookup_gradient, reference.lookup_gradient)
)
codebook_lookup_row_gradients.register_kernel("cuda")(
    on_cuda(_check_gradient, 4, kernels.lookup_row_gradients, reference.lookup_row_gradients)
)
codebook_expand.register_kernel("cuda")(on_cuda(_check_expansion, 6, kernels.expand, reference.expand))
codebook_collapse.register_kernel("cuda")(on_cuda(_check_expansion, 6, kernels.collapse, reference.collapse))


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


def rows_at(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`, whose gradient is always the same."""
    return look_up(table, rows, None, torch.arange(len(rows), device=rows.device), NO_PADDING)
