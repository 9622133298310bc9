"""What work in several processes asks of them, its ranks: numbers and arrays that go between them.

`baco_gpu.distributed.torch_ranks` has it over torch.distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Array = Any  # of NumPy, CuPy or PyTorch


class Ranks(Protocol):
    """All ranks call the same methods in the same order. Arrays come back as what `xp.asarray` takes."""

    @property
    def rank(self) -> int:
        """The number of this one."""

    @property
    def size(self) -> int:
        """How many there are."""

    def table(self, *numbers: int) -> Array:
        """The integers of every rank: int64 NumPy array of shape (ranks, len(numbers))."""

    def gather(self, own: Array, counts: Sequence[int]) -> list[Array]:
        """The arrays of all ranks, which have `counts` rows and are otherwise alike. Each is sent as it is."""

    def exchange(self, parts: Array, counts: Array) -> Array:
        """What all ranks have for this one, in their order; rank r sends the next `counts[r, q]` rows to rank q."""

    def add(self, own: Array) -> Array:
        """The sum of the floats that all ranks have, of one shape; the same bits on all of them."""

    def agree(self, **said: str) -> None:
        """Raise InputError on every rank unless all say the same."""
