"""One process, where work could be done by several."""

from __future__ import annotations

import numpy as np


class Alone:
    """See `baco_gpu.ranks.Summing`: the one process that there is."""

    def table(self, *numbers: int) -> np.ndarray:
        return np.array([numbers], dtype=np.int64)

    def add(self, own: np.ndarray) -> np.ndarray:
        return own


ALONE = Alone()
