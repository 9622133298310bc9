"""Tables of shared rows, to which ids can be added, and from which they can be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import GONE, Labels, label_array, rows_of_labels, secondary_rows
from baco_gpu.tables.derived import normal_tensors
from baco_gpu.tables.embedding_table import Device
from baco_gpu.tables.id_growth import Assigned, Growth, Kind, Moves, has_kinds, joined, padding_now, places_of
from baco_gpu.tables.weight import ExpandedTable


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
    def resize(self, assignments: Assigned, secondary: Labels | None = None, *, places: Any = None) -> Moves:
        """Give every id its label anew, in place: old ids may have moved or gone, and there may be more of them.

        The codebook stays the parameter that it is, and its optimiser keeps its state; `resize_module` resizes several
        tables, and gives new ids rows of their own where all have.

        Parameters
        ----------
        assignments, secondary : integers of shape (number of ids, old and new,), in the label space of `labels`
            Or as `compress_module` takes them: one side of a result, or, for a table of several kinds, a list of a side
            or assignments for each, with the labels that each of them has by itself. `secondary` of None means none.
        places : integers of shape (num_embeddings,), optional
            The number that every old id has now, -1 for one that is gone, as `result.users.places_in(grown.users)`
            says it: what belongs to an id, as `padding_idx` does, goes with it. Old ids keep their numbers where it is
            not given. Of several kinds a list, with numbers within each, or None for a kind whose ids keep theirs.

        Raises
        ------
        InputError
            When a label is not one of the codebook, places are not distinct numbers of ids, there are too few ids for
            `padding_idx`, or a list is not of the kinds of the table.
        """
        return self.regrow(self.growth_of(assignments, secondary, places))

    def growth_of(
        self, assignments: Assigned, secondary: Labels | None = None, places: Any = None, *, own_rows: bool = False
    ) -> Growth:
        several = has_kinds(assignments)
        if several and self.kinds is None:
            raise InputError(
                "assignments must be one array, for a table that was not made of a list of kinds, got a list"
            )
        given, kinds = joined("to resize", assignments, self.kinds if several and not own_rows else None)
        second = given.secondary if secondary is None else secondary
        self._check_places(len(given.labels), places)
        if kinds is not None:
            places = self._places_of_kinds(kinds, places)
        if own_rows:
            return self._own_growth(given.labels, places)._replace(kinds=kinds)
        labels = self.labels.cpu().numpy()
        rows = rows_of_labels("assignments", label_array("assignments", given.labels, minimum=0), labels)
        others = None if second is None else secondary_rows(second, labels, rows, columns=self._many)
        now = places_of(places, self.num_embeddings, len(rows))
        padding_now(self.padding_idx, now)
        return Growth(rows, now, others, kinds=kinds)

    def regrow(self, growth: Growth) -> Moves:
        moves, labels = self._regrow_rows(growth) if growth.own_rows else {}, self.labels.cpu().numpy()
        rows = growth.labels
        if growth.own_rows:
            labels = rows = np.arange(len(growth.labels))
        device = self.codebook.device
        padding = padding_now(self.padding_idx, growth.places)
        self.num_embeddings = len(rows)
        self.padding_idx = padding
        with normal_tensors():
            self._register_assignments(labels, rows, growth.secondary, device)
            self._carry(growth.places)
        self.kinds = growth.kinds
        if growth.own_rows and growth.kinds is not None:
            lasts = np.cumsum([kind.ids for kind in growth.kinds]).tolist()
            self.kinds = tuple(
                Kind(kind.ids, last - kind.ids, last) for kind, last in zip(growth.kinds, lasts, strict=True)
            )
        return moves

    def _carry(self, places: np.ndarray) -> None:
        """Give what belongs to ids beside their rows to where they are now."""

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
            now = places_of(part, old.ids, new.ids)
            parts.append(np.where(now == GONE, GONE, now + start))
        return np.concatenate(parts)

    def _check_places(self, count: int, places: Any) -> None:
        """Raise InputError where places must be given, and are not."""

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
