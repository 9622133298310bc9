"""Splitting interactions at random into training, validation and test parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from baco_gpu.checks import check_instance, check_integer, check_number
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError

_MASK = (1 << 64) - 1


def random_split(
    interactions: Interactions, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> SplitInteractions:
    """Split interactions into three parts, each interaction on its own and with equal chances.

    Parameters
    ----------
    interactions : Interactions
    fractions : three numbers
        Shares of training, validation and test; non-negative, and 1 in sum. Of n interactions the validation part gets
        floor(validation * n + 1/2), the test part floor(test * n + 1/2) or what is left, and training the rest.
    seed : int
        From 0 to 2**64 - 1. The same seed gives the same parts on any platform and with any NumPy.

    Returns
    -------
    SplitInteractions
        The order of the interactions within a part is that of the input.

    Raises
    ------
    InputError
        If the fractions are not three non-negative numbers of sum 1, or the seed is out of range.
    """
    check_instance("interactions", interactions, Interactions)
    shares = check_fractions(fractions)
    seed = check_seed(seed)
    total = len(interactions)
    validation_size = min(math.floor(shares[1] * total + 0.5), total)
    test_size = min(math.floor(shares[2] * total + 0.5), total - validation_size)
    order = random_order(total, seed)
    part = np.zeros(total, dtype=np.int8)
    part[order[:validation_size]] = 1
    part[order[validation_size : validation_size + test_size]] = 2
    return SplitInteractions(*(interactions.take(np.flatnonzero(part == number)) for number in range(3)))


def merge_repeated(interactions: Interactions) -> Interactions:
    """Keep the first interaction of every pair, with the sum of the pair's weights and its earliest timestamp.

    Both only where there are any.
    """
    keys = interactions.users.astype(np.int64) * interactions.num_items + interactions.items
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(keys):
        return interactions
    order = np.sort(first)
    merged = interactions.take(order)
    if interactions.weights is not None:
        sums = np.bincount(group, weights=interactions.weights)
        merged = replace(merged, weights=sums[group[order]])
    if interactions.timestamps is not None:
        earliest = interactions.timestamps[first]
        np.minimum.at(earliest, group, interactions.timestamps)
        merged = replace(merged, timestamps=earliest[group[order]])
    return merged


def check_seed(seed: int) -> int:
    """Return a seed from 0 to 2**64 - 1; raise InputError for anything else."""
    return check_integer("seed", seed, minimum=0, maximum=_MASK)


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Return three shares as floats; raise InputError unless they are non-negative and sum to 1."""
    if isinstance(fractions, str) or not isinstance(fractions, Sequence) or len(fractions) != 3:
        raise InputError(f"fractions must be three numbers (training, validation, test), got {fractions!r}")
    train, validation, test = (check_number("fractions", share, minimum=0, maximum=1) for share in fractions)
    if abs(train + validation + test - 1) > 1e-9:
        raise InputError(f"fractions must sum to 1, got {train + validation + test:g}")
    return train, validation, test


def random_order(length: int, seed: int) -> np.ndarray:
    """A random permutation of 0 .. length - 1 (int64) that depends on the seed alone.

    Positions are sorted by a 64-bit hash of (seed, position), so that no generator's stream, which may change between
    NumPy releases, has a say; equal hashes keep their order.
    """
    keys = np.arange(length, dtype=np.uint64)
    keys += np.uint64((mix(seed) + 0x9E3779B97F4A7C15) & _MASK)
    keys = _mix_array(keys)
    return np.argsort(keys, kind="stable")


def mix(value: int) -> int:
    """The splitmix64 finaliser of one integer."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix_array(values: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser of every element, in place."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
