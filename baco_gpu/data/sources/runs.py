"""Runs of entries that lie one after another in an array."""

from __future__ import annotations

import numpy as np


def within_runs(lengths: np.ndarray) -> np.ndarray:
    """The place of every entry in its run: 0, 1, ... for each of runs of these lengths, int64."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def cuts(costs: np.ndarray, shares: int) -> np.ndarray:
    """The places that cut a sequence of such costs into runs of about equal cost, its two ends included."""
    running = np.concatenate(([0], np.cumsum(costs)))
    wanted = running[-1] * np.arange(1, shares) // shares
    return np.concatenate(([0], np.searchsorted(running, wanted), [len(costs)])).astype(np.int64)
