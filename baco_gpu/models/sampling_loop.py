"""The compiled loop of `TripleSampler` on a CPU (Numba); sampling.py has the same in PyTorch, bit for bit."""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled
from baco_gpu.ops.counters import KEY_STEPS, MULTIPLIERS, NEGATIVES, PHILOX_ROUNDS
from baco_gpu.prefetch import prefetch

_FACTORS = np.array(MULTIPLIERS, np.uint64)
_STEPS = np.array(KEY_STEPS, np.uint32)
_WORD = np.uint64(32)
_BLOCK = 64


@njit(inline="always")
def _random_word(place, seed, stream):
    """The random number of 63 bits at a place of a stream: `baco_gpu.ops.counters.random_words`."""
    counter = np.uint64(place) >> np.uint64(1)
    a, b = np.uint32(counter), np.uint32(counter >> _WORD)
    c, d = np.uint32(stream), np.uint32(NEGATIVES)
    low, high = np.uint32(seed), np.uint32(seed >> _WORD)
    for _ in range(PHILOX_ROUNDS):
        first, second = np.uint64(a) * _FACTORS[0], np.uint64(c) * _FACTORS[1]
        a, c = np.uint32(second >> _WORD) ^ b ^ low, np.uint32(first >> _WORD) ^ d ^ high
        b, d = np.uint32(second), np.uint32(first)
        low, high = np.uint32(low + _STEPS[0]), np.uint32(high + _STEPS[1])
    if place & 1:
        a, b = c, d
    return np.int64((np.uint64(b) & np.uint64(0x7FFFFFFF)) << _WORD | np.uint64(a))


@njit(inline="always")
def _permuted(place, count, bits, keys):
    """Where a permutation of 0..count-1 sends a place: `baco_gpu.ops.counters.permuted`."""
    left, right = np.uint64(bits // 2), np.uint64(bits - bits // 2)
    one = np.uint64(1)
    x = np.uint64(place)
    while True:
        high, low = x >> right, x & ((one << right) - one)
        for number in range(len(keys)):
            if number % 2 == 0:
                high ^= (low * keys[number, 0] + keys[number, 1]) >> (np.uint64(64) - left)
            else:
                low ^= (high * keys[number, 0] + keys[number, 1]) >> (np.uint64(64) - right)
        x = high << right | low
        if x < np.uint64(count):
            return np.int64(x)


@compiled(nogil=True, error_model="numpy")
def draw_triples(part, parts, first, users, items, starts, shifted, num_items, bits, keys, seed, stream, triples):
    """Fill `triples`, int64 of shape (3, count), with those at the places from `first` on.

    Parameters
    ----------
    part, parts : int
        This thread's number, and the number of threads.
    users, items : int64 arrays of all interactions
    starts, shifted : as of `UnseenItems`
    bits : int, of `shuffle_bits`
    keys : uint64 array of shape (rounds, 2), of `round_keys`
    seed, stream : uint64
    """
    count = triples.shape[1]
    begin, end = count * part // parts, count * (part + 1) // parts
    samples, keys_of = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    # Places by the block, so that what one waits for from memory has been asked for with that of many others.
    for block in range(begin, end, _BLOCK):
        size = min(_BLOCK, end - block)
        for at in range(size):
            samples[at] = _permuted(first + block + at, len(users), bits, keys)
            prefetch(users, samples[at])
            prefetch(items, samples[at])
        for at in range(size):
            prefetch(starts, users[samples[at]])
        for at in range(size):
            user, place = users[samples[at]], first + block + at
            start, stop = starts[user], starts[user + 1]
            prefetch(shifted, (start + stop) >> 1)
            rank = _random_word(place, seed, stream) % (num_items - (stop - start))
            keys_of[at] = user * num_items + rank
            triples[0, block + at], triples[1, block + at], triples[2, block + at] = user, items[samples[at]], rank
        for at in range(size):
            user, key = triples[0, block + at], keys_of[at]
            low, left = starts[user], starts[user + 1] - starts[user]
            while left > 0:  # no branch depends on what is found
                half = (left + 1) >> 1
                low += half * np.int64(shifted[low + half - 1] <= key)
                left -= half
            triples[2, block + at] += low - starts[user]
