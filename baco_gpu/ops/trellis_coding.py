"""Trellis-coded quantization of rows: every value is read from a window of the row's bits that overlaps the last one's.

Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources" (IEEE Transactions on
Communications 38, 1990), with the trellis of a shift register (Tseng et al., QTIP, arXiv 2406.11235, section 3). A row
is a string of bits. A value brings as many new ones as it has `shift`, and is the entry of a table that the last
`state` bits number, times the spread of its place. So values of any rates share one small table, and err nearly as
little as their bits allow: of normally distributed ones, 2 bits leave 8% (a bound is 6%, rounding one by one 12%).
Results are on the device of the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from baco_gpu.ops.segments import add_by_row_
from baco_gpu.parallel import in_parts
from baco_gpu.precision import trellis_windows

MOST_SHIFT = 8  # bits that a value brings at most: those by which popular items are told need more than others
FITTED = 2  # rows a state that values are fitted to; more err hardly less, nor do more rounds
_ROUNDS = 6
_COSTS = 1 << 24  # of states that are there at a time


def shifts_for(variances: Tensor, bits: int) -> Tensor:
    """How many of the bits of a row every value brings, uint8 of shape (dim,), so that what is left errs least.

    An error falls to a quarter by a bit: each goes where most is left. Values have `MOST_SHIFT` at most.
    """
    left, shifts = variances.double().cpu().numpy(), np.zeros(len(variances), dtype=np.uint8)
    for _ in range(bits):
        place = int(np.where(shifts < MOST_SHIFT, left * 4.0 ** -shifts.astype(float), -1.0).argmax())
        shifts[place] += 1
    return torch.from_numpy(shifts).to(variances.device)


class Sample(NamedTuple):
    """Some rows of one grade, less their mean, and how they are coded; see `nearest_words`."""

    rows: Tensor
    spreads: Tensor
    shifts: Tensor
    weights: Tensor


def fit_values(samples: Sequence[Sample], state_bits: int, seed: int) -> Tensor:
    """The values of all states, (2^state_bits, 1), for rows like these.

    They begin as what the values of the rows are, in random order, and are moved to the means of what is nearest to
    them (Lloyd), errors counted as they are in scores. The same for the same seed.
    """
    generator, states = torch.Generator().manual_seed(seed), 1 << state_bits
    first = samples[0].rows
    owners = [(sample.rows / sample.spreads)[:, sample.shifts > 0].reshape(-1) for sample in samples]
    known, shares = torch.cat(owners).sort().values, (torch.arange(states, dtype=torch.float64) + 0.5) / states
    if not known.any():  # nor any row: those of a normal distribution
        known = torch.special.ndtri(shares).to(first)
    order = torch.randperm(states, generator=generator)
    values = known[(shares * len(known)).long()[order].to(first.device)].unsqueeze(1)
    for _ in range(_ROUNDS):
        sums, sizes = torch.zeros_like(values), torch.zeros_like(values)
        for rows, spreads, shifts, weights in samples:
            words = nearest_words(rows, values, spreads, shifts, weights)
            coded = (shifts > 0).expand(words.shape)
            counts = (weights * spreads.square()).to(values).expand(words.shape)[coded].unsqueeze(1)
            wanted = (rows / spreads)[coded].unsqueeze(1)
            sums = add_by_row_(sums, counts * wanted, words[coded].long())
            sizes = add_by_row_(sizes, counts, words[coded].long())
        values = torch.where(sizes > 0, sums / sizes.clamp(min=torch.finfo(sizes.dtype).tiny), values)
    return values


def nearest_words(rows: Tensor, values: Tensor, spreads: Tensor, shifts: Tensor, weights: Tensor) -> Tensor:
    """The states, one a value, of the path through the trellis that is nearest to each row (Viterbi's algorithm).

    Parameters
    ----------
    rows : floating tensor of shape (n, dim)
    values : floating tensor of shape (2^state, 1)
    spreads, shifts, weights : tensors of shape (dim,)
        What values are multiplied by, how many bits each brings, and what its squared error counts.

    Returns
    -------
    int32 tensor of shape (n, dim): of values that bring no bits, what the state is then.
    """
    wide = torch.promote_types(rows.dtype, torch.float32)
    levels = (spreads.unsqueeze(1) * values.squeeze(1)).to(wide)
    if rows.device.type == "cpu" and wide == torch.float32:
        from baco_gpu.ops.trellis_loop import find_paths  # and Numba, which encoding on a GPU can do without

        words = torch.empty(rows.shape, dtype=torch.int32)
        told = levels.numpy(), shifts.long().numpy(), weights.float().numpy(), words.numpy()
        in_parts(find_paths, torch.get_num_threads(), rows.float().numpy(), *told)
        return words
    chunk = max(1, _COSTS // len(values))
    parts = [_paths(part.to(wide), levels, shifts.tolist(), weights.tolist()) for part in rows.split(chunk)]
    return torch.cat(parts) if parts else torch.empty(rows.shape, dtype=torch.int32, device=rows.device)


def _paths(rows: Tensor, levels: Tensor, shifts: list[int], weights: list[float]) -> Tensor:
    count, states = len(rows), levels.shape[1]
    costs = rows.new_full((count, states), math.inf)
    costs[:, 0] = 0
    came: list[Tensor | None] = []
    for place, shift in enumerate(shifts):
        if not shift:
            came.append(None)
            continue
        before = costs.view(count, 1 << shift, -1)  # by the bits that drop out of the window
        least, dropped = before[:, 0].clone(), torch.zeros(before[:, 0].shape, dtype=torch.uint8, device=rows.device)
        for bits in range(1, 1 << shift):
            dropped.masked_fill_(before[:, bits] < least, bits)
            torch.minimum(least, before[:, bits], out=least)
        came.append(dropped)
        errors = (rows[:, place : place + 1] - levels[place]).square_().mul_(weights[place])
        costs = (errors.view(count, -1, 1 << shift) + least.unsqueeze(2)).view(count, states)
    state = costs.argmin(dim=1)
    words = torch.empty(rows.shape, dtype=torch.int32, device=rows.device)
    for place in range(len(shifts) - 1, -1, -1):
        words[:, place] = state
        lost, shift = came[place], shifts[place]
        if lost is not None:
            kept = state >> shift
            state = (lost.gather(1, kept.unsqueeze(1)).squeeze(1).long() * (states >> shift)) + kept
    return words


def pack_words(words: Tensor, shifts: Tensor) -> Tensor:
    """The bits of rows from their states (n, dim): uint8 of shape (n, sum of shifts / 8), the first bit highest."""
    owners = torch.arange(len(shifts), device=words.device).repeat_interleave(shifts.long().to(words.device))
    ends = shifts.long().cumsum(0).to(words.device)
    places = ends[owners] - 1 - torch.arange(len(owners), device=words.device)
    bits = (words[:, owners] >> places) & 1
    powers = 1 << torch.arange(7, -1, -1, device=words.device)
    return (bits.view(len(words), len(owners) // 8, 8) * powers).sum(dim=2).to(torch.uint8)


def read_words(packed: Tensor, starts: Tensor, windows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The states (n, dim), int32, of rows that start at these bytes (n,) of a string that has two bytes before them.

    `windows` are those of `trellis_windows`, for every row or, of shape (1, dim), for all of them.
    """
    last, divisors, moduli = windows
    at = starts.unsqueeze(1) + last
    high, middle, low = (packed[at + byte].int() for byte in range(3))
    # No shifts: exporters to ONNX know none of tensors.
    return torch.div(high * 65536 + middle * 256 + low, divisors, rounding_mode="trunc") & (moduli - 1)


def windows_of(shifts: Tensor, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """`trellis_windows` as tensors: last bytes int64, divisors and moduli int32."""
    last, divisors, moduli = trellis_windows(shifts.cpu().numpy(), states)
    arrays = (last, divisors.astype(np.int32), moduli.astype(np.int32))
    first, second, third = (torch.from_numpy(array).to(shifts.device) for array in arrays)
    return first, second, third
