"""Integers of few bits, packed and unpacked in PyTorch on the device that they are on; `baco_gpu.precision` in tensors.

Eight integers of some bits are as many bytes, and up to 8 bits no more than those of an int64, in which they are put
together and taken apart. Integers of 16 bits are int16, by two's complement.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu.precision import packed_width

_GROUP = 8  # integers, and bytes of an int64
_WIDE = 16  # bits


def pack(integers: Tensor, bits: int) -> Tensor:
    """Unsigned integers below 2^bits, of shape (..., dim), as bytes of shape (..., packed_width).

    They are uint8, or int32 where there are more than 8 bits.
    """
    if bits == _GROUP:
        return integers
    if bits == _WIDE:
        return integers.to(torch.int16, memory_format=torch.contiguous_format).view(torch.uint8)
    dim = integers.shape[-1]
    groups = functional.pad(integers, (0, -dim % _GROUP)).unflatten(-1, (-1, _GROUP))
    together = (groups.long() << _shifts(bits, integers.device)).sum(dim=-1)
    apart = together.view(torch.uint8).unflatten(-1, (-1, _GROUP))[..., :bits]
    return apart.flatten(-2)[..., : packed_width(dim, bits)].contiguous()


def unpack(packed: Tensor, bits: int, dim: int) -> Tensor:
    """The integers of `pack`, from bytes of shape (..., packed_width): uint8 or int32 of shape (..., dim)."""
    if bits == _GROUP:
        return packed
    if bits == _WIDE:
        return packed.view(torch.int16).to(torch.int32) & (2**_WIDE - 1)
    apart = functional.pad(packed, (0, -packed.shape[-1] % bits)).unflatten(-1, (-1, bits))
    together = functional.pad(apart, (0, _GROUP - bits)).view(torch.int64)
    groups = (together >> _shifts(bits, packed.device)) & (2**bits - 1)
    return groups.to(torch.uint8).flatten(-2)[..., :dim]


def _shifts(bits: int, device: torch.device) -> Tensor:
    """Where in an int64 the integers of a group begin."""
    return torch.arange(0, _GROUP * bits, bits, device=device)
