"""How a sequence is dealt out in runs of about equal cost."""

from __future__ import annotations

import numpy as np


def cuts(costs: np.ndarray, shares: int) -> np.ndarray:
    """The places that cut a sequence of such costs into runs of about equal cost, its two ends included."""
    running = np.concatenate(([0], np.cumsum(costs)))
    wanted = running[-1] * np.arange(1, shares) // shares
    return np.concatenate(([0], np.searchsorted(running, wanted), [len(costs)])).astype(np.int64)
