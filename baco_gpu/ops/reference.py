"""The codebook's operators in plain PyTorch: the reference of the CUDA kernels, and what runs where those do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.ops.segments import add_by_row_, gathered_sums, widened

NO_PADDING = -1


def lookup(codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int) -> Tensor:
    flat = indices.reshape(-1)
    check_range("indices", flat, len(codes))
    second = None if secondary is None else secondary.index_select(0, flat)
    out = _mean_rows(codebook, codes.index_select(0, flat), second)
    if padding_idx != NO_PADDING:
        out.masked_fill_((flat == padding_idx).unsqueeze(1), 0)
    return out.view(*indices.shape, codebook.shape[1])


def plain_lookup(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int
) -> Tensor:
    """`lookup`, of operators that transforms and exporters know, with the gradients that PyTorch gives them."""
    out = codebook[codes[indices].long()]  # ONNX gathers by int64 alone
    if secondary is not None:
        out = ((widened(out) + codebook[secondary[indices].long()]) * 0.5).to(codebook.dtype)
    if padding_idx != NO_PADDING:
        out = out.masked_fill((indices == padding_idx).unsqueeze(-1), 0)
    return out


def lookup_gradient(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> Tensor:
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


def lookup_row_gradients(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> tuple[Tensor, Tensor]:
    flat = indices.reshape(-1)
    terms = widened(grad.reshape(len(flat), grad.shape[-1]))
    if padding_idx != NO_PADDING:
        real = flat != padding_idx
        flat, terms = flat[real], terms[real]
    owners = [table.index_select(0, flat) for table in (codes, secondary) if table is not None]
    touched, places = torch.unique(torch.cat(owners), return_inverse=True)
    total = terms.new_zeros((len(touched), grad.shape[-1]))
    for own in places.split(len(flat)):
        add_by_row_(total, terms, own)
    return touched.long(), (total if secondary is None else total.mul_(0.5)).to(grad.dtype)


def expand(
    codebook: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    out = _mean_rows(codebook, codes, secondary)
    if padding_idx != NO_PADDING:
        out[padding_idx] = 0
    return out


def collapse(
    grad: Tensor, codes: Tensor, secondary: Tensor | None, padding_idx: int, offsets: Tensor, ids: Tensor
) -> Tensor:
    total = gathered_sums(widened(grad), offsets, ids)
    return (total if secondary is None else total.mul_(0.5)).to(grad.dtype)


def _mean_rows(codebook: Tensor, first: Tensor, second: Tensor | None) -> Tensor:
    try:
        return _mean_of_rows(codebook, first, second)
    except (IndexError, RuntimeError):
        # PyTorch refuses a row that is not there, and does not say where it came from.
        check_range("codes", first, len(codebook))
        if second is not None:
            check_range("secondary", second, len(codebook))
        raise


def _mean_of_rows(codebook: Tensor, first: Tensor, second: Tensor | None) -> Tensor:
    if second is None:
        return codebook.index_select(0, first)
    if codebook.dtype == torch.float32:
        # One pass instead of four, in 0.6 of the time and, where a batch is large, in a tenth of it.
        pairs = torch.stack((first, second), dim=1).view(-1)
        pairs = pairs if len(pairs) <= torch.iinfo(torch.int32).max else pairs.long()
        ends = torch.arange(0, len(pairs) + 1, 2, dtype=pairs.dtype, device=pairs.device)
        return gathered_sums(codebook, ends, pairs).mul_(0.5)
    return widened(codebook.index_select(0, first)).add_(codebook.index_select(0, second)).mul_(0.5).to(codebook.dtype)


def check_indices(indices: object) -> None:
    """Raise InputError unless `indices` is an int32 or int64 tensor."""
    if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
        raise InputError(f"indices must be an int32 or int64 tensor, got {kind_of(indices)}")


def kind_of(value: object) -> str:
    """What came where a tensor of another kind was expected."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return str(value.dtype)


def transformed() -> bool:
    """Whether `torch.func` transforms what runs now, and so every operator must be one that it knows."""
    return torch._C._are_functorch_transforms_active()


def decomposed() -> bool:
    """Whether lookups must be made of PyTorch's own operators: under `torch.func`, and on the way to ONNX."""
    return transformed() or torch.onnx.is_in_onnx_export()


def exported() -> bool:
    """Whether what runs now becomes a graph, of PyTorch's or of ONNX, to be run elsewhere."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def in_processes() -> bool:
    """Whether DistributedDataParallel runs a model now."""
    return nn.parallel.DistributedDataParallel._get_active_ddp_module() is not None


def in_several_processes() -> bool:
    """Whether DistributedDataParallel runs a model in this process and in others."""
    wrapper = nn.parallel.DistributedDataParallel._get_active_ddp_module()
    return wrapper is not None and torch.distributed.get_world_size(wrapper.process_group) > 1


def check_range(name: str, flat: Tensor, count: int) -> None:
    """Raise InputError where a row or an id is out of range; on the CPU alone, a GPU would have to be waited for.

    Under `torch.func` and in graphs nobody can ask, and PyTorch's own operators refuse an index that is not there.
    """
    if flat.device.type != "cpu" or transformed() or exported() or flat.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(flat))
    if low < 0 or high >= count:
        raise InputError(f"{name} must be from 0 to {count - 1}, got {low if low < 0 else high}")
