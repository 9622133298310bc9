"""Rows of a codebook as 8-bit integers: a scale for every row, and gradients that pass straight through the rounding.

What is trained are float values; what a lookup sees, and what is stored in the end, are the integers nearest to them.
The gradient of the rounding is taken to be one (Bengio et al., arXiv 1308.3432, section 2.3), so that training knows
what the rounding does. The scale is the greatest value of a row over 127.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_GREATEST = 127
SCALE_BYTES = 4


def quantized_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """The integers of every row, int8, and its scale, of shape (rows, 1): their product is near to `values`."""
    scales = values.detach().abs().amax(dim=1, keepdim=True) / _GREATEST
    # A row of zeros, or of values so small that a scale of them is none, is stored as zeros.
    steps = torch.where(scales > 0, values / scales, 0.0)
    return steps.round().clamp(-_GREATEST, _GREATEST).to(torch.int8), scales


def rounded_rows(values: Tensor) -> Tensor:
    """What is left of float `values` when they are stored as integers; differentiable, as if nothing were lost."""
    rounded: Tensor = _Rounding.apply(values)
    return rounded


def stored_bytes(values: Tensor) -> int:
    """Bytes of the integers of `values`, a matrix, and of its scales."""
    return values.numel() + len(values) * SCALE_BYTES


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        steps, scales = quantized_rows(values)
        return steps.to(values.dtype) * scales

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
