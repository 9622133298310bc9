"""Ids that a table comes to have, or has no more: one kind of them, or several in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.tables.assignments import GONE, NO_SECONDARY, Labels, label_array, moved_ids

_BLOCK = 1 << 16  # rows that are floats at a time


@runtime_checkable
class Assignments(Protocol):
    """Assignments of one side, and second ones or None: `CoclusteringResult.users`, for instance."""

    @property
    def labels(self) -> Any: ...

    @property
    def secondary(self) -> Any: ...


class Codes(NamedTuple):
    """Assignments and second ones as plain arrays."""

    labels: Labels
    secondary: Labels | None = None


Assigned = Assignments | Labels | Sequence[Assignments | Labels]


class Kind(NamedTuple):
    """One of the kinds of ids in a table: how many ids it has, and of which labels, from `first` on, before `last`."""

    ids: int
    first: int
    last: int


def joined(name: str, assigned: Assigned, known: Sequence[Kind] | None = None) -> tuple[Codes, tuple[Kind, ...] | None]:
    """One array of assignments and one of second ones, and the kinds where `assigned` is a list of some.

    Kinds never share a row: the labels of every part are shifted past the last's, or as those of the kinds `known`.
    """
    if not has_kinds(assigned):
        side = assigned if isinstance(assigned, Assignments) else Codes(assigned)  # type: ignore[arg-type]
        return Codes(label_array(f"assignments {name}", side.labels, minimum=0), side.secondary), None
    parts: Sequence[Any] = assigned  # type: ignore[assignment]
    if known is not None and len(known) != len(parts):
        raise InputError(f"assignments {name} must be a list of {len(known)} kinds of ids, got {len(parts)}")
    labels, secondary, kinds, shift = [], [], [], 0
    for place, part in enumerate(parts):
        side = part if isinstance(part, Assignments) else Codes(part)
        own = label_array(f"assignments {name}", side.labels, minimum=0)
        shift, last = (shift, shift + int(own.max(initial=-1)) + 1) if known is None else known[place][1:]
        if own.max(initial=-1) >= last - shift:
            raise InputError(f"assignments {name} must be below {last - shift} in part {place}, got {own.max()}")
        labels.append(own + shift)
        if side.secondary is None:
            secondary.append(np.full(len(own), NO_SECONDARY))
        else:
            second = label_array(f"secondary assignments {name}", side.secondary, minimum=NO_SECONDARY)
            secondary.append(np.where(second == NO_SECONDARY, NO_SECONDARY, second + shift))
        kinds.append(Kind(len(own), shift, last))
        shift = last
    has_secondary = any(isinstance(part, Assignments) and part.secondary is not None for part in parts)
    return Codes(np.concatenate(labels), np.concatenate(secondary) if has_secondary else None), tuple(kinds)


def has_kinds(assigned: Assigned) -> bool:
    if isinstance(assigned, Assignments) or not isinstance(assigned, list | tuple):
        return False
    return any(isinstance(part, Assignments | list | tuple) or getattr(part, "ndim", 0) for part in assigned)


class Growth(NamedTuple):
    """What ids a table is to have: checked, and nothing done as yet.

    Attributes
    ----------
    labels : int64 array of shape (ids,)
        The row of every id; where ids have rows of their own, whom each is like.
    places : int64 array of shape (old ids,)
        The number that every old id has now, -1 for one that is gone.
    secondary : int64 array or None
        Further rows.
    own_rows : bool
    kinds : tuple of Kind, or None
    """

    labels: np.ndarray
    places: np.ndarray
    secondary: np.ndarray | None = None
    own_rows: bool = False
    kinds: tuple[Kind, ...] | None = None

    @property
    def sources(self) -> np.ndarray:
        """The number that every id had before, -1 for a new one: int64 of shape (ids,)."""
        out = np.full(len(self.labels), GONE, np.int64)
        stay = self.places != GONE
        out[self.places[stay]] = np.flatnonzero(stay)
        return out


class RowMoves(NamedTuple):
    """Where the rows of a parameter came from.

    Attributes
    ----------
    rows : int
        How many there were.
    sources : int64 array, the row that each was before, -1 for one that begins anew
    """

    rows: int
    sources: np.ndarray


Moves = dict[nn.Parameter, RowMoves]


class Growing(Protocol):
    """What is asked of a table whose ids have rows of their own (`EmbeddingTable`)."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    def read_rows(self, rows: Tensor | None = None) -> Tensor: ...


def places_of(given: Labels | None, count: int, size: int) -> np.ndarray:
    """Where `count` old ids are among `size`; they keep their numbers where none are given, as far as there are any."""
    if given is not None:
        return moved_ids(given, count, size)
    places = np.arange(count)
    return np.where(places < size, places, GONE)


def padding_now(padding_idx: int | None, places: np.ndarray) -> int | None:
    """Where the padding index is now; InputError where it is gone."""
    if padding_idx is None:
        return None
    now = int(places[padding_idx])
    if now == GONE:
        raise InputError(f"places must keep the padding index {padding_idx}, got -1 for it")
    return now


@torch.no_grad()
def first_rows(table: Growing, growth: Growth, device: torch.device) -> Tensor:
    """What rows of new ids begin with: the means of the rows of old ids with their label, or of all where none has it.

    The padding index is in no mean. Float64 of shape (new ids, embedding_dim).
    """
    sources = growth.sources
    groups, group_of = np.unique(growth.labels[sources == GONE], return_inverse=True)
    sums = torch.zeros((len(groups) + 1, table.embedding_dim), dtype=torch.float64, device=device)
    counts = torch.zeros(len(groups) + 1, dtype=torch.float64, device=device)
    old = np.flatnonzero((growth.places != GONE) & (np.arange(len(growth.places)) != table.padding_idx))
    for ids in np.array_split(old, -(-len(old) // _BLOCK)) if len(groups) and len(old) else ():
        rows = table.read_rows(torch.as_tensor(ids, device=device)).double()
        labels = growth.labels[growth.places[ids]]
        found = np.searchsorted(groups, labels)
        known = groups[np.minimum(found, len(groups) - 1)] == labels
        at = torch.as_tensor(np.where(known, found, len(groups)), device=device)
        sums.index_add_(0, at, rows)
        counts.index_add_(0, at, torch.ones_like(at, dtype=torch.float64))
    everyone = sums.sum(dim=0) / counts.sum().clamp(min=1)
    means = torch.where(counts[:-1, None] > 0, sums[:-1] / counts[:-1, None].clamp(min=1), everyone)
    return means[torch.as_tensor(group_of, device=device)]


@torch.no_grad()
def move_rows(module: nn.Module, names: Sequence[str], sources: np.ndarray) -> None:
    """Give the parameters and buffers of these names the rows of `sources`, zeros for those that begin anew.

    Parameters stay the objects that they are, so that optimizers keep them; their gradients are dropped.
    """
    known = sources != GONE
    for name in names:
        old = getattr(module, name)
        at = torch.as_tensor(sources[known], device=old.device)
        new = old.detach().new_zeros((len(sources), *old.shape[1:]))
        new[torch.as_tensor(known, device=old.device)] = old.detach()[at]
        if isinstance(old, nn.Parameter):
            old.grad = None
            # A graph that is still there, as that of the last loss, would have gradients of the former shape; data of
            # another dtype have the parameter forget it.
            old.data = new.new_empty(0, dtype=torch.float32 if new.dtype == torch.float64 else torch.float64)
            old.data = new
        else:
            module.register_buffer(name, new)
