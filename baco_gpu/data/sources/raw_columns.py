"""The first step of reading: rows become columns of raw ids and numbers, a batch at a time, each looked at once.

Files are read with Arrow. It was measured against polars, duckdb and pandas (benchmarks/loading.py,
benchmarks/results/loading.md), and images with PyTorch and pandas have it already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.data.sources.cells import Place, Timestamps, checked_ids, checked_numbers, decoded
from baco_gpu.data.sources.where import kept
from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa

    from baco_gpu.data.sources.rows import Batch, Rows


@dataclass(frozen=True)
class RawColumns:
    """Some rows of a table: Arrow columns of int64 or strings, without gaps, and what else was asked for.

    Weights and ratings are float64 arrays, timestamps an int64 or a float64 array; None where not asked for.
    """

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    weights: np.ndarray | None = None
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def nbytes(self) -> int:
        """Bytes of the raw ids."""
        return self.users.nbytes + self.items.nbytes


class Tally:
    """What the batches of a table come to: how many rows, and what must hold of all of them together."""

    def __init__(self) -> None:
        self.rows, self.left, self.highest = 0, 0, -np.inf
        self.timestamps = Timestamps()

    def check(self, rows: Rows, min_rating: float | None) -> None:
        """Once all batches were read: InputError where nothing is left of them."""
        self.timestamps.warn_of_days()
        if self.rows == 0:
            told = " and ".join(map(str, rows.where))
            raise InputError(
                f"{rows.source}: expected interactions, got a table without rows" + (f" of {told}" * bool(told))
            )
        if self.left == 0:
            raise InputError(f"min_rating must leave a rating, got {min_rating:g}, and the highest is {self.highest:g}")


def raw_batches(rows: Rows, tally: Tally, min_rating: float | None = None) -> Iterator[RawColumns]:
    """The rows that `rows.where` and `min_rating` leave, in batches of at least one row; `tally` takes them down.

    Raises
    ------
    InputError
        If a batch is damaged, ids are missing, negative, or integers here and strings there, numbers are none, or
        whatever `rows` raises.
    """
    kinds: dict[str, tuple[str, str]] = {}  # of ids, by their role, and a source that has them
    for batch in rows.batches():
        table = _whole(rows, batch)
        # Where rows are left out, the kept ones are counted, of all files together.
        source, first = (rows.source, tally.rows) if rows.where else (batch.source, batch.first)
        places = {role: Place(source, label, first, bool(rows.where)) for role, label in rows.labels.items()}
        columns = _checked(places, table, kinds, tally.timestamps)
        tally.rows += len(columns)
        if min_rating is not None and len(columns):
            assert columns.ratings is not None
            tally.highest = max(tally.highest, columns.ratings.max())
            columns = _at_least(columns, min_rating)
        tally.left += len(columns)
        if len(columns):
            yield columns


def check_types(source: object, labels: dict[str, str], schema: pa.Schema) -> None:
    """Raise InputError for a column, by its role, whose type no ids, numbers or timestamps have."""
    import pyarrow as pa

    for role, label in labels.items():
        nothing = decoded(pa.chunked_array([], schema.field(label).type))
        _checked_column(Place(source, label), role, nothing, Timestamps())


def said(labels: dict[str, str]) -> str:
    """The columns that were read, in words: users from 'customer_id', items from 'article_id'."""
    return ", ".join(f"{role}s from {label!r}" for role, label in labels.items())


def _whole(rows: Rows, batch: Batch) -> pa.Table:
    """The rows of a batch that are kept, without dictionaries, once nothing in them points outside of it.

    What Arrow computes with trusts offsets, indices of dictionaries and text in UTF-8, and the process ends, or other
    memory is read, where they are wrong: a file is read without a look at them.
    """
    import pyarrow as pa

    columns = {}
    for label in rows.columns:
        column = batch.table.column(label)
        try:
            column.validate(full=True)
        except pa.ArrowException as error:
            raise InputError(f"{batch.source}: column {label!r} is damaged ({brief(error)})") from error
        columns[label] = decoded(column)
    return kept(batch.source, rows.where, pa.table(columns))


def _checked(
    places: dict[str, Place], table: pa.Table, kinds: dict[str, tuple[str, str]], timestamps: Timestamps
) -> RawColumns:
    """The columns of a table by their role."""
    columns = {}
    for role, place in places.items():
        columns[f"{role}s"] = column = _checked_column(place, role, table.column(place.label), timestamps)
        if role in ("user", "item") and len(column):
            _check_kind(place, role, column.type, kinds)
    return RawColumns(**columns)


def _checked_column(place: Place, role: str, column: pa.ChunkedArray, timestamps: Timestamps) -> Any:
    if role in ("user", "item"):
        return checked_ids(place, column)
    if role == "timestamp":
        return timestamps.checked(place, column)
    return checked_numbers(place, column, 0.0 if role == "weight" else None)


def _check_kind(place: Place, role: str, kind: pa.DataType, kinds: dict[str, tuple[str, str]]) -> None:
    """Raise InputError where ids are integers in one part of a table and strings in another."""
    import pyarrow as pa

    noun = "integers" if pa.types.is_integer(kind) else "strings"
    first, where = kinds.setdefault(role, (noun, str(place.source)))
    if noun != first:
        raise InputError(f"{place} must hold {first}, as in {where}, got {noun}")


def _at_least(columns: RawColumns, minimum: float) -> RawColumns:
    """The rows whose rating is at least `minimum`."""
    import pyarrow as pa

    assert columns.ratings is not None
    high = columns.ratings >= minimum
    if high.all():
        return columns
    mask = pa.array(high)
    numbers = (columns.weights, columns.ratings, columns.timestamps)
    return RawColumns(
        columns.users.filter(mask),
        columns.items.filter(mask),
        *(None if values is None else values[high] for values in numbers),
    )
