"""Rows as integers of few bits: a scale for every row, packed bytes, and gradients that pass through the rounding.

What is trained are float values; what a lookup sees, and what is stored in the end, are the levels nearest to them.
The gradient of the rounding is taken to be one (Bengio et al., arXiv 1308.3432, section 2.3), so that training knows
what the rounding does, and zero for values beyond the outermost levels, which would otherwise drift away from what is
stored for them (Hubara et al., arXiv 1602.02830, section 1.3).

Levels are the odd multiples of half the scale of a row, as many on both sides of zero. The outermost reaches the row's
greatest value; but with 2 to 4 bits levels are no further apart than errs least for normally distributed values
(Max, IRE Transactions on Information Theory 6, 1960, table II), since a greatest value that few levels had to reach
would leave most of them unused. Scales are rounded to a byte themselves, upwards where levels reach the greatest value.

Rows without floats behind them (`QuantizedEmbedding`) are rounded at random, up or down as near as a level is, so
that a value is what it should be on average, and many steps that are less than a level add up (Gupta et al., arXiv
1502.02551, section 3). No value may be beyond the outermost levels then.

Bytes are those of `baco_gpu.precision`, which reads them in NumPy where there is no PyTorch; here they are packed and
unpacked on the device that they are on. Eight integers of some bits are as many bytes, and up to 8 bits no more than
those of an int64, in which they are put together and taken apart. Integers of 16 bits are int16, by two's complement.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu import precision
from baco_gpu.errors import InputError
from baco_gpu.ops.reference import exported
from baco_gpu.precision import SCALE_PLACE, least_scale, midpoint, packed_width, places

_STEPS = {4: 0.3352, 3: 0.5860, 2: 0.9957}  # of the uniform quantizer of least error, in standard deviations
_GROUP = 8  # integers, and bytes of an int64
_WIDE = 16  # bits


def check_storable(values: Tensor, bits: int) -> None:
    """Raise InputError where values are not finite, or beyond what integers of so many bits hold.

    Rounding would make numbers of NaN, and of what is too great the greatest that there is.
    """
    if not values.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(values.detach()))
    most = greatest_value(bits)
    if not (-most <= low and high <= most):
        got = "NaN or infinity" if not math.isfinite(high - low) else f"{low if -low > high else high:g}"
        raise InputError(f"table must be finite and of values up to {most:g} with {bits} bits, got {got}")


def greatest_value(bits: int) -> float:
    """The outermost level of the greatest scale."""
    return float(midpoint(bits) * scale_values(torch.tensor(255, dtype=torch.uint8), bits))


def quantized_rows(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The integers of every row, from 0 to 2^bits - 1, and its scale, uint8 of shape (rows, 1).

    Integers are uint8, or int32 where there are more than 8 bits.

    Integer less `midpoint(bits)`, times the value of the scale, is near to `values`.
    """
    scales = _scales(values.detach(), bits)
    return _integers(_steps(values.detach(), scales, bits), bits), scales


def stochastic_rows(values: Tensor, bits: int, chances: Tensor) -> tuple[Tensor, Tensor]:
    """`quantized_rows` whose levels, times the scale, are `values` on average.

    Parameters
    ----------
    values : floating tensor of shape (rows, dim)
    bits : int, 16 or from 8 to 2
    chances : tensor of the same shape and dtype, uniform from 0 to 1
    """
    scales = _scales_that_reach(values, bits)
    steps = _steps(values, scales, bits)
    return _integers(steps.sub_(0.5).add_(chances), bits), scales


def values_of(integers: Tensor, scales: Tensor, bits: int) -> Tensor:
    """The float32 values that integers of any shape (..., dim) stand for, beside scales of shape (..., 1)."""
    return (integers.float() - midpoint(bits)).mul_(scale_values(scales, bits))


def scale_values(scales: Tensor, bits: int) -> Tensor:
    """Float32 values of scales, uint8 of any shape: `baco_gpu.precision.scale_values`, on their device."""
    if exported():  # ONNX takes no bits of a float for an integer
        every = precision.scale_values(np.arange(256, dtype=np.uint8), bits)
        return torch.tensor(every.tolist(), device=scales.device)[scales.long()]
    values = ((scales.to(torch.int32) + least_scale(bits)) << SCALE_PLACE).view(torch.float32)
    return values.masked_fill(scales == 0, 0.0)


def rounded_rows(values: Tensor, bits: int) -> Tensor:
    """What is left of float `values` when they are stored as integers; differentiable where these can follow them."""
    rounded: Tensor = _Rounding.apply(values, bits)[0]
    return rounded


def as_if_unrounded(floats: Tensor, stored: Tensor) -> Tensor:
    """What is stored, with a gradient for it and, as if it were these, for the floats that it stands for."""
    out: Tensor = _Unrounded.apply(floats, stored)
    return out


def pack(integers: Tensor, bits: int) -> Tensor:
    """Unsigned integers below 2^bits, of shape (..., dim), as bytes of shape (..., packed_width).

    They are uint8, or int32 where there are more than 8 bits.
    """
    integers = integers.contiguous()
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
    if exported():  # nor do graphs of it shift by tensors
        low, high, place = (torch.tensor(each.tolist(), device=packed.device) for each in places(dim, bits))
        pairs = packed[..., low].long() + (packed[..., high].long() << 8)
        return right_shift(pairs, place) % 2**bits
    if bits == _WIDE:
        return packed.view(torch.int16).to(torch.int32) & (2**_WIDE - 1)
    apart = functional.pad(packed, (0, -packed.shape[-1] % bits)).unflatten(-1, (-1, bits))
    together = functional.pad(apart, (0, _GROUP - bits)).view(torch.int64)
    groups = (together >> _shifts(bits, packed.device)) & (2**bits - 1)
    return groups.to(torch.uint8).flatten(-2)[..., :dim]


def right_shift(values: Tensor, places: Tensor) -> Tensor:
    """`values >> places` of integers of at least zero, as exporters know it, too."""
    return torch.div(values, 2**places, rounding_mode="floor") if exported() else values >> places


def _scales(values: Tensor, bits: int) -> Tensor:
    """The scale of every row that errs least, uint8 of shape (rows, 1)."""
    if bits not in _STEPS:
        return _scales_that_reach(values, bits)
    wide = torch.promote_types(values.dtype, torch.float32)
    norms = torch.linalg.vector_norm(values, dim=1, keepdim=True, dtype=wide).float()
    scales = torch.minimum(_greatest(values, bits), norms * (_STEPS[bits] / math.sqrt(values.shape[1])))
    return _scale_bytes(scales, bits, 2 ** (SCALE_PLACE - 1))


def _scales_that_reach(values: Tensor, bits: int) -> Tensor:
    """The least scale of every row whose outermost level is no less than any value, uint8 of shape (rows, 1)."""
    return _scale_bytes(_greatest(values, bits), bits, 2**SCALE_PLACE - 1)


def _greatest(values: Tensor, bits: int) -> Tensor:
    """The greatest value of every row in units of the outermost level."""
    return values.abs().amax(dim=1, keepdim=True).float() / midpoint(bits)


def _scale_bytes(scales: Tensor, bits: int, upwards: int) -> Tensor:
    """Float32 scales as bytes, rounded by what is added to the bits that go."""
    if exported():
        least = (np.arange(2, 256) + least_scale(bits) << SCALE_PLACE) - upwards  # of every byte after the first
        reached = torch.tensor(least.astype(np.int32).view(np.float32).tolist(), device=scales.device)
        return torch.where(scales == 0, 0, 1 + (scales >= reached).long().sum(dim=-1, keepdim=True))
    rounded = ((scales.view(torch.int32) + upwards) >> SCALE_PLACE) - least_scale(bits)
    return rounded.clamp_(1, 255).masked_fill_(scales == 0, 0).to(torch.uint8)


def _steps(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Every value in units of the scale of its row, in float32 at least; one of zero makes zeros of any level."""
    return values / scale_values(scales, bits).masked_fill(scales == 0, 1.0)


def _levels(steps: Tensor, bits: int) -> Tensor:
    """The levels nearest to `steps`, in their dtype and in their place."""
    top = midpoint(bits)
    return steps.floor_().add_(0.5).clamp_(-top, top)


def _integers(steps: Tensor, bits: int) -> Tensor:
    """The integers of the levels nearest to `steps`, which are overwritten."""
    return _levels(steps, bits).add_(midpoint(bits)).to(torch.uint8 if bits <= 8 else torch.int32)


def _shifts(bits: int, device: torch.device) -> Tensor:
    """Where in an int64 the integers of a group begin."""
    return torch.arange(0, _GROUP * bits, bits, device=device)


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """Rounded values, and which of them the gradient passes; of no shape where it passes all."""
        scales = _scales(values, bits)
        steps = _steps(values, scales, bits)
        # With other bits no value is beyond the greatest of its row.
        within = steps.abs() <= 2 ** (bits - 1) if bits in _STEPS else scales.new_empty(0, dtype=torch.bool)
        return _levels(steps, bits).mul_(scale_values(scales, bits)).to(values.dtype), within

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.bounded = inputs[1] not in _STEPS
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        if not ctx.bounded:
            ctx.save_for_backward(output[1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: Tensor, bits: int) -> tuple[Any, Any]:
        """Tables one below another, since rows are rounded one by one."""
        values = values.movedim(in_dims[0], 0)
        rounded, within = _Rounding.apply(values.flatten(0, 1), bits)
        if bits in _STEPS:
            return (rounded.view_as(values), within.view_as(values)), (0, 0)
        return (rounded.view_as(values), within), (0, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor, None]:
        if ctx.bounded:
            return gradient, None
        (within,) = ctx.saved_tensors
        if not gradient.is_sparse:
            return gradient * within, None
        touched = gradient.coalesce()
        rows, sums = touched.indices(), touched.values() * within[touched.indices()[0]]
        return torch.sparse_coo_tensor(rows, sums, gradient.shape, is_coalesced=True, check_invariants=False), None


class _Unrounded(torch.autograd.Function):
    """Forward what is stored; backward as if that were the floats, and to what it is made of."""

    generate_vmap_rule = True

    @staticmethod
    def forward(floats: Tensor, stored: Tensor) -> Tensor:
        return stored.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad
