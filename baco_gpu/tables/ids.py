"""Which ids a table of shared rows has, and how there come to be more: one kind of them, or several in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import (
    NO_SECONDARY,
    Labels,
    label_array,
    moved_ids,
    rows_of_labels,
    secondary_rows,
)
from baco_gpu.tables.embedding_table import Device, normal_tensors
from baco_gpu.tables.weight import ExpandedTable


@runtime_checkable
class Labelled(Protocol):
    """Assignments of one side, and second ones or None: `CoclusteringResult.users`, for instance."""

    @property
    def labels(self) -> Any: ...

    @property
    def secondary(self) -> Any: ...


class Codes(NamedTuple):
    """Assignments and second ones as plain arrays."""

    labels: Labels
    secondary: Labels | None = None


Assigned = Labelled | Labels | Sequence[Labelled | Labels]


class Kind(NamedTuple):
    """One of the kinds of ids in a table: how many ids it has, and of which labels, from `first` on, before `last`."""

    ids: int
    first: int
    last: int


def joined(name: str, assigned: Assigned, known: Sequence[Kind] | None = None) -> tuple[Codes, tuple[Kind, ...] | None]:
    """One array of assignments and one of second ones, and the kinds where `assigned` is a list of some.

    Kinds never share a row: the labels of every part are shifted past the last's, or as those of the kinds `known`.
    """
    if not _has_kinds(assigned):
        side = assigned if isinstance(assigned, Labelled) else Codes(assigned)  # type: ignore[arg-type]
        return Codes(label_array(f"assignments {name}", side.labels, minimum=0), side.secondary), None
    parts: Sequence[Any] = assigned  # type: ignore[assignment]
    if known is not None and len(known) != len(parts):
        raise InputError(f"assignments {name} must be a list of {len(known)} kinds of ids, got {len(parts)}")
    labels, secondary, kinds, shift = [], [], [], 0
    for place, part in enumerate(parts):
        side = part if isinstance(part, Labelled) else Codes(part)
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
    has_secondary = any(isinstance(part, Labelled) and part.secondary is not None for part in parts)
    return Codes(np.concatenate(labels), np.concatenate(secondary) if has_secondary else None), tuple(kinds)


def _has_kinds(assigned: Assigned) -> bool:
    if isinstance(assigned, Labelled) or not isinstance(assigned, list | tuple):
        return False
    return any(isinstance(part, Labelled | list | tuple) or getattr(part, "ndim", 0) for part in assigned)


class ResizableTable(ExpandedTable):
    """A table of labels, to which ids can be added.

    Attributes
    ----------
    kinds : tuple of Kind, or None
        Where the table was given a list of several kinds of ids.
    """

    codebook: nn.Parameter
    assignments: Tensor
    secondary: Tensor | None
    labels: Tensor

    kinds: tuple[Kind, ...] | None = None

    _many = False  # whether an id may have several secondary assignments

    def _register_assignments(
        self, labels: np.ndarray, rows: np.ndarray, secondary: np.ndarray | None, device: Device
    ) -> None:
        raise NotImplementedError

    @renamed_arguments(codes="assignments")
    def resize(self, assignments: Assigned, secondary: Labels | None = None, *, places: Any = None) -> None:
        """Give every id its label anew, in place: old ids may have moved, and there may be more of them.

        The codebook stays the parameter that it is, and its optimiser keeps its state. `secondary` of None means none.

        Parameters
        ----------
        assignments, secondary : integers of shape (number of ids, old and new,), in the label space of `labels`
            Or as `compress_module` takes them: one side of a result, or, for a table of several kinds, a list of a side
            or assignments for each, with the labels that each of them has by itself.
        places : integers of shape (num_embeddings,), optional
            The number that every old id has now, such as `result.users.places_in(grown.users)`: what belongs to an id,
            as `padding_idx` does, goes with it. Old ids keep their numbers where it is not given. Of several kinds a
            list, with numbers within each, or None for a kind whose ids keep theirs.

        Raises
        ------
        InputError
            When a label is not one of the codebook, places are not distinct numbers of ids, there are too few ids for
            `padding_idx`, or a list is not of the kinds of the table.
        """
        several = _has_kinds(assignments)
        if several and self.kinds is None:
            raise InputError(
                "assignments must be one array, for a table that was not made of a list of kinds, got a list"
            )
        given, kinds = joined("to resize", assignments, self.kinds if several else None)
        second = given.secondary if secondary is None else secondary
        self._check_places(len(given.labels), places)
        if kinds is not None:
            places = self._places_of_kinds(kinds, places)
        self._resize(given.labels, second, places)
        self.kinds = kinds

    def _places_of_kinds(self, kinds: Sequence[Kind], places: Any) -> Labels:
        """Where old ids are now: kinds begin elsewhere, when there are more ids of those before them."""
        assert self.kinds is not None
        within: Any = [None] * len(kinds) if places is None else places
        if not isinstance(within, list | tuple) or not any(part is None or np.ndim(part) for part in within):
            return within
        if len(within) != len(kinds):
            raise InputError(f"places must be a list of {len(kinds)} kinds of ids, got {len(within)}")
        starts = np.cumsum([0, *(kind.ids for kind in kinds)])
        parts = []
        for part, old, new, start in zip(within, self.kinds, kinds, starts, strict=False):
            parts.append(moved_ids(np.arange(old.ids) if part is None else part, old.ids, new.ids) + start)
        return np.concatenate(parts)

    def _check_places(self, count: int, places: Any) -> None:
        """Raise InputError where places must be given, and are not."""

    def _resize(self, assignments: Labels, secondary: Labels | None, places: Labels | None) -> None:
        labels = self.labels.cpu().numpy()
        rows = rows_of_labels("assignments", label_array("assignments", assignments, minimum=0), labels)
        second = None if secondary is None else secondary_rows(secondary, labels, rows, columns=self._many)
        now = None if places is None else moved_ids(places, self.num_embeddings, len(rows))
        self.num_embeddings = len(rows)
        if self.padding_idx is not None:
            self.padding_idx = self.padding_idx if now is None else int(now[self.padding_idx])
        with normal_tensors():
            self._register_assignments(labels, rows, second, self.codebook.device)

    @renamed_arguments(codes="assignments")
    def with_new_ids(self, assignments: Labels, secondary: Labels | None = None) -> Self:
        """A module with further ids appended, whose labels the codebook already holds; nothing is retrained.

        The new ids are `num_embeddings`, `num_embeddings + 1`, ... The codebook parameter is shared with this module:
        what is trained in one is seen by both.

        Parameters
        ----------
        assignments, secondary : integers of shape (number of new ids,), in the label space of `labels`
            A `secondary` of -1 means none.

        Raises
        ------
        InputError
            When a label is not one of the codebook.
        """
        labels = self.labels.cpu().numpy()
        rows = rows_of_labels("assignments", label_array("assignments", assignments, minimum=0), labels)
        second = rows if secondary is None else secondary_rows(secondary, labels, rows, columns=self._many)
        old = self.assignments.cpu().numpy()
        merged = None
        if self.secondary is not None or secondary is not None:
            merged = labels[np.concatenate([old if self.secondary is None else self.secondary.cpu().numpy(), second])]
        other = type(self).__new__(type(self))
        nn.Module.__init__(other)
        other.__dict__.update({name: self.__dict__[name] for name in self.__dict__.keys() - other.__dict__.keys()})
        for parts in ("_parameters", "_buffers", "_modules"):
            other.__dict__[parts].update(self.__dict__[parts])
        other.resize(labels[np.concatenate([old, rows])], merged, places=np.arange(self.num_embeddings))
        return other.train(self.training)
