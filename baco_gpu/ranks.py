"""What work in several processes asks of them, its ranks: numbers and arrays that go between them.

`baco_gpu.distributed.torch_ranks` has it over torch.distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

Array = Any  # of NumPy, CuPy or PyTorch
_T = TypeVar("_T")


class Summing(Protocol):
    """What sums of all ranks ask of them. All ranks call the same methods in the same order."""

    def table(self, *numbers: int) -> Array:
        """The integers of every rank: int64 NumPy array of shape (ranks, len(numbers))."""

    def add(self, own: Array) -> Array:
        """The sum of the numbers that all ranks have, of one shape; of floats the same bits on all of them."""


class Ranks(Summing, Protocol):
    """The processes. Arrays come back as what `xp.asarray` takes."""

    @property
    def rank(self) -> int:
        """The number of this one."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, own: Array, counts: Sequence[int]) -> list[Array]:
        """The arrays of all ranks, which have `counts` rows and are otherwise alike. Each is sent as it is."""

    def exchange(self, parts: Array, counts: Array) -> Array:
        """What all ranks have for this one, in their order; rank r sends the next `counts[r, q]` rows to rank q."""

    def agree(self, **said: str) -> None:
        """Raise InputError on every rank unless all say the same."""

    def together(self, work: Callable[[], _T]) -> _T:
        """What `work` gives here, once it has succeeded on every rank; an error on all of them where it has not."""
