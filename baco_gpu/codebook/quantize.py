"""Rows of a codebook as integers of few bits: a scale for every row, and gradients that pass through the rounding.

What is trained are float values; what a lookup sees, and what is stored in the end, are the levels nearest to them.
The gradient of the rounding is taken to be one (Bengio et al., arXiv 1308.3432, section 2.3), so that training knows
what the rounding does, and zero for values beyond the outermost levels, which would otherwise drift away from what is
stored for them (Hubara et al., arXiv 1602.02830, section 1.3).

With 8 bits the levels are the multiples of a row's scale, its greatest value over 127. With fewer they are the odd
multiples of half its scale, as many on both sides of zero, and the scale is that of least error for normally
distributed values: their root mean square times the step of Max (IRE Transactions on Information Theory 6, 1960, table
II), since a greatest value that few levels have to reach would leave most of them unused.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from baco_gpu.precision import midpoint

_GREATEST = 127
_STEPS = {4: 0.3352, 2: 0.9957}  # of the uniform quantiser of least error, in standard deviations


def quantized_rows(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The integers of every row and its scale, of shape (rows, 1).

    The integers are int8 for 8 bits; for fewer they are uint8 from 0 on, and level `i` is `i - midpoint(bits)`. The
    level times the scale is near to `values`.
    """
    steps, scales = _steps(values.detach(), bits)
    levels = _levels(steps, bits)
    if bits == 8:
        return levels.to(torch.int8), scales
    return (levels + midpoint(bits)).to(torch.uint8), scales


def rounded_rows(values: Tensor, bits: int) -> Tensor:
    """What is left of float `values` when they are stored as integers; differentiable where these can follow them."""
    rounded: Tensor = _Rounding.apply(values, bits)
    return rounded


def _steps(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Every value in units of the scale of its row, and the scales; a scale of zero makes zeros of any level."""
    if bits == 8:
        scales = values.abs().amax(dim=1, keepdim=True) / _GREATEST
    else:
        wide = torch.promote_types(values.dtype, torch.float32)
        norms = torch.linalg.vector_norm(values, dim=1, keepdim=True, dtype=wide)
        scales = (norms * (_STEPS[bits] / math.sqrt(values.shape[1]))).to(values.dtype)
    return values / scales.clamp(min=torch.finfo(values.dtype).tiny), scales


def _levels(steps: Tensor, bits: int) -> Tensor:
    """The levels nearest to `steps`, in their dtype and in their place."""
    if bits == 8:
        return steps.round_().clamp_(-_GREATEST, _GREATEST)
    top = midpoint(bits)
    return steps.floor_().add_(0.5).clamp_(-top, top)


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bits: int) -> Tensor:
        steps, scales = _steps(values, bits)
        # No value is beyond the greatest of its row.
        ctx.bounded = bits == 8
        if not ctx.bounded:
            ctx.save_for_backward(steps.abs() <= 2 ** (bits - 1))
        return _levels(steps, bits).mul_(scales)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.bounded:
            return gradient, None
        (within,) = ctx.saved_tensors
        if not gradient.is_sparse:
            return gradient * within, None
        touched = gradient.coalesce()
        rows, sums = touched.indices(), touched.values() * within[touched.indices()[0]]
        return torch.sparse_coo_tensor(rows, sums, gradient.shape, is_coalesced=True, check_invariants=False), None
