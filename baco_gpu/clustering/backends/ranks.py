"""What a backend asks of the processes that solve with it, its ranks: numbers and arrays that go between them.

`baco_gpu.distributed.torch_ranks` has it over torch.distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from baco_gpu.clustering.backends.backend import Array


class Ranks(Protocol):
    """All ranks call the same methods in the same order. Arrays come back as what `xp.asarray` takes."""

    @property
    def rank(self) -> int:
        """The number of this one."""

    @property
    def size(self) -> int:
        """How many there are."""

    def table(self, *numbers: int) -> np.ndarray:
        """The integers of every rank: int64 array of shape (ranks, len(numbers))."""

    def gather(self, own: Array, counts: Sequence[int]) -> list[Array]:
        """The arrays of all ranks, which have `counts` rows and are otherwise alike. Each is sent as it is."""

    def exchange(self, parts: Array, counts: np.ndarray) -> Array:
        """What all ranks have for this one, in their order; rank r sends the next `counts[r, q]` rows to rank q."""

    def agree(self, **said: str) -> None:
        """Raise InputError on every rank unless all say the same."""
