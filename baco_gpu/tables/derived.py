"""What is made of a table's tensors, and kept until these are others."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

_Made = TypeVar("_Made")


@contextlib.contextmanager
def normal_tensors() -> Iterator[None]:
    """Under `torch.inference_mode`, make tensors that training may read later, and that know of being written to."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


class Derived(dict[str, tuple[Any, Hashable, list[Tensor]]]):
    """What is made of a table's tensors and settings, kept until these are others, or were written to.

    On a CPU values are compared, since what is written through `tensor.data` or NumPy leaves no trace. On a GPU, where
    that would wait for the device, `tensor.data` may be set anew, and must not be written to in place.
    """

    def of(self, name: str, sources: list[Tensor], settings: Hashable, make: Callable[[], _Made]) -> _Made:
        if any(tensor.is_inference() for tensor in sources):  # of which nobody knows when they are written to
            return make()
        on_cpu = all(tensor.is_cpu for tensor in sources)
        state = (settings, tuple(None if on_cpu else (tensor._version, tensor.data_ptr()) for tensor in sources))
        if name in self:
            made, then, known = self[name]
            if then == state and len(known) == len(sources) and all(map(_equal if on_cpu else _same, known, sources)):
                return made
        with normal_tensors():
            made = make()
        self[name] = (made, state, [tensor.detach().clone() for tensor in sources] if on_cpu else sources)
        return made

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return Derived, ()  # copies make their own


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)


_same = operator.is_
