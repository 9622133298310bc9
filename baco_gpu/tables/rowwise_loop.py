"""The compiled loop of `RowwiseRMSprop` on a CPU (Numba): a step of rows, of any number of bits.

`move_rows` of rowwise.py is the same in PyTorch, with every rounding in the same place, and kernels/low_precision.cu
in CUDA. As there, a row is gone through three times: for the mean square, for the greatest value after the step, which
says the scale, and for the integers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled
from baco_gpu.ops.counters import KEY_STEPS, MULTIPLIERS, PHILOX_ROUNDS, ROUNDING
from baco_gpu.precision import SCALE_PLACE

_FACTORS = np.array(MULTIPLIERS, np.uint64)
_STEPS = np.array(KEY_STEPS, np.uint32)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_MAGNITUDE = np.int32(0x7FFFFFFF)


@njit(inline="always")
def _word(row, step, seed):
    """The first word of Philox-4x32-10 for the counter of a row at a step: `baco_gpu.ops.counters.philox`."""
    a, b = np.uint32(row), np.uint32(np.uint64(row) >> np.uint64(32))
    c, d = np.uint32(step), np.uint32(ROUNDING)
    low, high = np.uint32(seed), np.uint32(seed >> np.uint64(32))
    for _ in range(PHILOX_ROUNDS):
        first, second = np.uint64(a) * _FACTORS[0], np.uint64(c) * _FACTORS[1]
        a, c = (
            np.uint32(second >> np.uint64(32)) ^ b ^ low,
            np.uint32(first >> np.uint64(32)) ^ d ^ high,
        )
        b, d = np.uint32(second), np.uint32(first)
        low, high = np.uint32(low + _STEPS[0]), np.uint32(high + _STEPS[1])
    return a


@njit(inline="always")
def _scale_that_reaches(greatest, middle, least_scale):
    """The least scale whose outermost level is no less than `greatest`, an int32 that is the bits of a float32."""
    bits = np.empty(1, np.int32)
    bits[0] = greatest
    scale = bits.view(np.float32)
    scale[0] /= middle
    if bits[0] == 0:
        return 0
    rounded = ((bits[0] + ((1 << SCALE_PLACE) - 1)) >> SCALE_PLACE) - least_scale
    return min(max(rounded, 1), 255)


@compiled(nogil=True, error_model="numpy")
def move_rows(
    levels,
    places,
    rows,
    scales,
    scale_values,
    squares,
    counts,
    gradient,
    odd,
    seed,
    step,
    middle,
    least_scale,
    rate,
    eps,
):
    """Move rows, rounded at random. Those whose mean square, or whose rate, is no finite number stay as they are.

    Parameters
    ----------
    levels : uint8 or uint16 array of shape (any, dim)
        The integers, changed in place.
    places : int64 array
        Where in `levels` each of `rows` is.
    rows : int64 array of distinct rows
    scales, counts : uint8 arrays, a number for every row of the table; changed
    scale_values : float32 array of shape (256,)
        What every scale stands for.
    squares : float32 array, a number for every row of the table; changed
    gradient : float32 array of shape (number of rows, dim)
    odd : int32 array of shape (dim,), from `odd_words`
    seed : uint64
    step : int64, from 1
    middle, rate, eps : float32
    least_scale : int64
        Of `baco_gpu.precision.least_scale`.
    """
    dim = levels.shape[1]
    values = np.empty(dim, np.float32)
    as_integers = values.view(np.int32)  # which are ordered as the floats are, but for the sign, and compared faster
    for at in range(len(rows)):
        row, own = rows[at], levels[places[at]]
        total = 0.0
        for j in range(dim):
            total += np.float64(gradient[at, j]) * np.float64(gradient[at, j])
        now = np.float32(total / dim)
        if not np.isfinite(now):
            continue
        seen = np.int32(counts[row]) + 1
        mean = squares[row]
        mean += (now - mean) / np.float32(seen)
        length = _ONE / (np.sqrt(mean) + eps) * rate
        if not np.isfinite(length):
            continue
        squares[row] = mean
        counts[row] = min(seen, 255)

        before = scale_values[scales[row]]
        for j in range(dim):
            values[j] = (np.float32(own[j]) - middle) * before - gradient[at, j] * length
        greatest = np.int32(0)
        for j in range(dim):
            greatest = max(greatest, as_integers[j] & _MAGNITUDE)
        scale = _scale_that_reaches(greatest, middle, least_scale)
        scales[row] = scale
        after = scale_values[scale] if scale else _ONE
        word = np.uint32(_word(row, step, seed))
        for j in range(dim):
            chance = np.float32(np.uint32(word * np.uint32(odd[j])) >> np.uint32(8)) * np.float32(2.0**-24)
            values[j] = np.floor(values[j] / after - _HALF + chance) + _HALF
        for j in range(dim):
            own[j] = np.int32(min(max(values[j], -middle), middle) + middle)
