"""`OnHost`: what goes between ranks as NumPy arrays, whatever device the processes' tensors meet on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from baco_gpu.ranks import Ranks

_T = TypeVar("_T")


class OnHost:
    """See `Ranks`; arrays go and come as NumPy arrays."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.rank, self.size = ranks.rank, ranks.size

    def table(self, *numbers: int) -> np.ndarray:
        return np.asarray(self._ranks.table(*numbers))

    def add(self, own: np.ndarray) -> np.ndarray:
        return _received(self._ranks.add(_sent(own)))

    def gather(self, own: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
        return [_received(part) for part in self._ranks.gather(_sent(own), counts)]

    def exchange(self, parts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return _received(self._ranks.exchange(_sent(parts), counts))

    def agree(self, **said: str) -> None:
        self._ranks.agree(**said)

    def together(self, work: Callable[[], _T]) -> _T:
        return self._ranks.together(work)


def _sent(array: np.ndarray) -> np.ndarray:
    """As PyTorch takes an array without a word: it has no tensor that may not be written to."""
    return np.require(array, requirements=["C", "W"])


def _received(array: Any) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)
