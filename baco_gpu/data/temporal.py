"""Splitting interactions by time: the last of every user, or the last of all, are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from baco_gpu.checks import check_instance
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.splits import check_fractions
from baco_gpu.errors import InputError


def leave_last_out(interactions: Interactions) -> SplitInteractions:
    """Hold out every user's last interaction for the test and the one before it for validation.

    A user with fewer than three interactions stays in training altogether. Where timestamps are equal, what comes later
    in the input is later.

    Raises
    ------
    InputError
        If the interactions have no timestamps.
    """
    _timestamps(interactions, "leave-last-out")
    order = interactions.in_order()
    counts = np.bincount(interactions.users, minlength=interactions.num_users)
    from_the_end = np.empty(len(interactions), dtype=np.int64)
    from_the_end[order] = (np.cumsum(counts) - 1)[interactions.users[order]] - np.arange(len(interactions))
    held_out = (from_the_end < 2) & (counts[interactions.users] >= 3)
    return SplitInteractions(
        interactions.take(np.flatnonzero(~held_out)),
        interactions.take(np.flatnonzero(held_out & (from_the_end == 1))),
        interactions.take(np.flatnonzero(held_out & (from_the_end == 0))),
    )


def temporal_split(interactions: Interactions, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> SplitInteractions:
    """Split at two moments for all users: training comes before validation, and that before the test.

    Of n interactions the test part gets the last floor(test * n + 1/2), validation the floor(validation * n + 1/2) (or
    what is left) before them, and training the rest. Where timestamps are equal, what comes later in the input is
    later. Users and items that first appear late have no training interaction.

    Raises
    ------
    InputError
        If the interactions have no timestamps, or the fractions are not three non-negative numbers of sum 1.
    """
    shares = check_fractions(fractions)
    timestamps = _timestamps(interactions, "temporal")
    total = len(interactions)
    test_size = math.floor(shares[2] * total + 0.5)
    validation_size = min(math.floor(shares[1] * total + 0.5), total - test_size)
    order = np.argsort(timestamps, kind="stable")
    bounds = [total - test_size - validation_size, total - test_size]
    return SplitInteractions(*(interactions.take(np.sort(part)) for part in np.split(order, bounds)))


def _timestamps(interactions: Interactions, split: str) -> np.ndarray:
    check_instance("interactions", interactions, Interactions)
    if interactions.timestamps is None:
        raise InputError(f"split {split!r} needs interactions with timestamps, got none")
    return interactions.timestamps
