"""Random numbers and permutations as functions of a counter: the same on every device, in any order, with no state.

Plain PyTorch on int64 tensors; kernels/philox.cuh has the same functions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Multipliers, and the steps of the key from round to round.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
_WORD = 0xFFFFFFFF
_SHUFFLE_ROUNDS = 8

# What a counter's last word says about the use of the numbers.
NEGATIVES, SHUFFLE, ROUNDING, DROPOUT = 0, 1, 2, 3

Words = tuple[Tensor | int, Tensor | int, Tensor | int, Tensor | int]


def philox(counter: Words, seed: int) -> Words:
    """Four random 32-bit words, independent for any two counters and seeds: Philox-4x32-10.

    Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 4.

    Parameters
    ----------
    counter : four int64 tensors of one shape, or integers; values in [0, 2^32)
    seed : int in [0, 2^64)
    """
    a, b, c, d = counter
    keys = [seed & _WORD, seed >> 32]
    for _ in range(PHILOX_ROUNDS):
        # A product of two words fits into 64 bits; where it takes the sign bit, the mask undoes what the shift does.
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            (second >> 32 & _WORD) ^ b ^ keys[0],
            second & _WORD,
            (first >> 32 & _WORD) ^ d ^ keys[1],
            first & _WORD,
        )
        keys = [(key + step) & _WORD for key, step in zip(keys, KEY_STEPS, strict=True)]
    return a, b, c, d


def random_words(first: int, count: int, seed: int, stream: int, device: torch.device, use: int = NEGATIVES) -> Tensor:
    """The random numbers of 63 bits at places `first` to `first + count - 1` of a stream, an int64 tensor.

    A counter gives two: place p takes the first or the second half of counter p // 2.
    """
    counters = torch.arange(first // 2, (first + count + 1) // 2, device=device)
    words = philox((counters & _WORD, counters >> 32, stream & _WORD, use), seed)
    pairs = [(words[high] & 0x7FFFFFFF) << 32 | words[low] for low, high in ((0, 1), (2, 3))]
    both = torch.stack([pair for pair in pairs if isinstance(pair, Tensor)], dim=1).view(-1)
    return both[first % 2 : first % 2 + count]


def random_chances(rows: Tensor, odd: Tensor, seed: int, step: Tensor) -> Tensor:
    """Numbers from 0 to 1 for the values of these rows at a step, float32 of shape (number of rows, dim).

    A row has a word of a counter of its own, which every dimension multiplies by an odd word of its own; the highest 24
    bits count. A counter for every value would take 20 times as long.

    Parameters
    ----------
    rows : int64 tensor, values from 0
    odd : int32 tensor of shape (dim,), from `odd_words`
    seed : int
    step : int64 tensor without dimensions, from 1
    """
    return chances_of(torch.as_tensor(philox((rows & _WORD, rows >> 32, step, ROUNDING), seed)[0]), odd)


def chances_of(words: Tensor, odd: Tensor) -> Tensor:
    """Numbers from 0 to 1 from the lower 32 bits of words, float32 of shape (*words.shape, len(odd))."""
    # A product modulo 2^32 is that of the int32 of the same bits; a shift to the right has to take its sign away.
    return (words.to(torch.int32)[..., None] * odd >> 8 & 0xFFFFFF).float().mul_(2.0**-24)


def odd_words(dim: int, seed: int, device: torch.device) -> Tensor:
    """An odd word for every dimension, in an int32 tensor of shape (dim,): what counters of step 0 are for."""
    words = philox((torch.arange(dim, device=device), 0, 0, ROUNDING), seed)[0] | 1
    return torch.as_tensor(words).to(torch.int32)


def permuted(places: Tensor, count: int, seed: int, stream: int) -> Tensor:
    """Where a random permutation of 0..count-1 sends `places` (int64, values in [0, count)).

    A Feistel network over the least power of two that holds `count`, at most twice as many numbers; what falls outside
    is sent on until it falls inside, which keeps the map one to one (cycle walking: Black and Rogaway, CT-RSA 2002). A
    round's function is the top bits of `a x + b`, pairwise independent for random `a` and `b` (Dietzfelbinger, 1996).
    So no array of the permutation is kept, and nothing is sorted.
    """
    bits = shuffle_bits(count)
    rounds = list(round_keys(seed, stream))
    out = _feistel(places, bits, rounds)
    outside = torch.nonzero(out >= count).view(-1)
    while len(outside):
        again = _feistel(out[outside], bits, rounds)
        out[outside] = again
        outside = outside[again >= count]
    return out


def shuffle_bits(count: int) -> int:
    """Bits of the numbers that a permutation of `count` things works on."""
    return max((count - 1).bit_length(), 2)


def round_keys(seed: int, stream: int) -> Iterator[tuple[int, int]]:
    """What the function of each round multiplies by and adds, as signed 64-bit words."""
    for number in range(_SHUFFLE_ROUNDS):
        words = philox((number, 0, stream & _WORD, SHUFFLE), seed)
        factor, addend = (int(words[low]) | int(words[high]) << 32 for low, high in ((0, 1), (2, 3)))
        yield _signed(factor | 1), _signed(addend)


def _signed(word: int) -> int:
    """The 64-bit word as the integer that an int64 tensor takes it for."""
    return word - (1 << 64) if word >> 63 else word


def _feistel(x: Tensor, bits: int, rounds: list[tuple[int, int]]) -> Tensor:
    # The halves are of `bits // 2` bits and of what is left; each is changed by a function of the other, in turns.
    widths = (bits // 2, bits - bits // 2)
    halves = [x >> widths[1], x & ((1 << widths[1]) - 1)]
    for number, (factor, addend) in enumerate(rounds):
        changed = number % 2
        width = widths[changed]
        halves[changed] = halves[changed] ^ (
            (halves[1 - changed] * factor + addend) >> (64 - width) & ((1 << width) - 1)
        )
    return halves[0] << widths[1] | halves[1]
