"""Runs of entries that lie one after another in an array."""

from __future__ import annotations

import numpy as np


def within_runs(lengths: np.ndarray) -> np.ndarray:
    """The place of every entry in its run: 0, 1, ... for each of runs of these lengths, int64."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
