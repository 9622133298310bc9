"""The columns of ids that a model was, or will be, trained on: checked, and of one form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from baco_gpu.errors import InputError


class Indexed(Protocol):
    """What columns have to know of a table."""

    @property
    def num_embeddings(self) -> int: ...
    @property
    def padding_idx(self) -> int | None: ...


class Column:
    """The ids of a table, event by event.

    Attributes
    ----------
    name : str
    size : int
        How many ids there are.
    ids : int64 array of shape (entries,)
    events : int64 array of the same shape, or None
        The event of every entry; None where each event has one, in order.
    num_events : int
    """

    def __init__(self, name: str, size: int, ids: np.ndarray, events: np.ndarray | None, num_events: int) -> None:
        self.name, self.size, self.ids, self.events, self.num_events = name, size, ids, events, num_events

    @cached_property
    def counts(self) -> np.ndarray:
        """How often every id is seen, int64 of shape (size,)."""
        return np.bincount(self.ids, minlength=self.size)

    @cached_property
    def ranks(self) -> np.ndarray:
        """The place of every id by how often it is seen, the most frequent first."""
        ranks = np.empty(self.size, np.int64)
        ranks[np.argsort(-self.counts, kind="stable")] = np.arange(self.size)
        return ranks

    @property
    def own_events(self) -> Column:
        """The events as ids: what those of one sequence, or bag, have in common."""
        assert self.events is not None
        return Column(OWN_EVENTS, self.num_events, self.events, None, len(self.events))


OWN_EVENTS = "its own sequences"


def columns_of(tables: Mapping[str, Indexed], data: Any) -> list[Column]:
    """The columns of these tables in `data`, as `compress_tables` takes it; InputError names the column at fault."""
    columns = [_column(name, table, data[name]) for name, table in tables.items()]
    for column in columns[1:]:
        if column.num_events != columns[0].num_events:
            raise InputError(
                f"data of {column.name!r} must have as many events as {columns[0].name!r} "
                f"({columns[0].num_events}), got {column.num_events}"
            )
    return columns


def names_in(data: Any) -> list[str]:
    """The names of the columns of a mapping or a data frame; InputError where it is neither, or has none."""
    names = data.keys() if isinstance(data, Mapping) else getattr(data, "columns", None)
    if names is None or isinstance(data, np.ndarray):
        raise InputError(f"data must be a mapping of names of tables to ids, or a data frame, got {_kind(data)}")
    found = list(names)
    if not found:
        raise InputError("data must have a column of one table at least, got none")
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"data must name tables of the model, got {name!r}")
    return found


def _column(name: str, table: Indexed, values: Any) -> Column:
    events: np.ndarray | None
    said, size = f"data of {name!r}", table.num_embeddings
    if isinstance(values, tuple):
        ids, events, count = _bags(said, values)
    else:
        array = _integers(said, values)
        if array.ndim not in (1, 2):
            raise InputError(f"{said} must have shape (events,) or (events, ids of one), got {array.shape}")
        ids, count = array.reshape(-1), len(array)
        events = None if array.ndim == 1 else np.repeat(np.arange(count), array.shape[1])
    if not len(ids):
        raise InputError(f"{said} must have events, got none")
    if ids.min() < 0 or ids.max() >= size:
        wrong = ids[(ids < 0) | (ids >= size)][0]
        raise InputError(f"{said} must be from 0 to {size - 1}, as the table has rows, got {wrong}")
    if table.padding_idx is not None:
        real = ids != table.padding_idx
        events = (np.arange(count) if events is None else events)[real]
        ids = ids[real]
        if len(ids) == count and np.array_equal(events, np.arange(count)):
            events = None
        if not len(ids):
            raise InputError(f"{said} must have ids other than padding ({table.padding_idx}), got none")
    return Column(name, size, ids.astype(np.int64), events, count)


def _bags(said: str, values: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    if len(values) != 2:
        raise InputError(f"{said} must be ids, or a pair of ids and offsets, got a tuple of {len(values)}")
    ids, offsets = (_integers(said, part) for part in values)
    if ids.ndim != 1 or offsets.ndim != 1:
        raise InputError(f"{said} must be ids and offsets of one dimension, got {ids.shape} and {offsets.shape}")
    sizes = np.diff(offsets, append=len(ids))
    if not len(offsets) or offsets[0] != 0 or (sizes < 0).any():
        raise InputError(f"{said} must have offsets that begin at 0 and ascend to at most {len(ids)}")
    return ids, np.repeat(np.arange(len(offsets)), sizes), len(offsets)


def _integers(said: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{said} must be integers, got {_kind(values)}: {error}") from error
    if array.dtype.kind not in "iu":
        raise InputError(f"{said} must be integers, got {array.dtype}")
    return array


def _kind(value: Any) -> str:
    return type(value).__name__
