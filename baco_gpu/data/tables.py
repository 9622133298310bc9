"""What the readers of tables share: which columns are read, what must hold of them, and numbering their raw ids.

Files are read with Arrow. It was measured against polars, duckdb and pandas (benchmarks/loading.py,
benchmarks/results/loading.md), and images with PyTorch and pandas have it already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.columns import factorize
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ColumnNames:
    """Which columns to read; None stands for the first (user), the second (item), and none (the others)."""

    user: str | None = None
    item: str | None = None
    weight: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The roles whose column has a name, and that name."""
        return {role: name for role, name in vars(self).items() if name is not None}


@dataclass(frozen=True)
class RawColumns:
    """What a table holds: two Arrow columns of int64 or strings, without gaps, and what else was asked for.

    Weights and ratings are float64 arrays, timestamps an int64 or a float64 array; None where not asked for.
    """

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    weights: np.ndarray | None = None
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None

    def with_ratings_of(self, minimum: float) -> RawColumns:
        """The rows whose rating is at least `minimum`; InputError if there is none."""
        import pyarrow as pa

        assert self.ratings is not None
        kept = self.ratings >= minimum
        if not kept.any():
            raise InputError(
                f"min_rating must leave a rating, got {minimum:g}, and the highest is {self.ratings.max():g}"
            )
        mask = pa.array(kept)
        return RawColumns(
            self.users.filter(mask),
            self.items.filter(mask),
            *(None if values is None else values[kept] for values in (self.weights, self.ratings, self.timestamps)),
        )


def interactions_of(columns: RawColumns, progress: Progress = silent) -> Interactions:
    """Number the raw ids of a table, both sides at the same time."""
    import pyarrow as pa

    # What parsing took and freed would stay with the process: up to half as much again as the columns.
    pa.default_memory_pool().release_unused()
    progress("read", 1, 2, "number the ids")
    (users, user_vocabulary), (items, item_vocabulary) = factorize(columns.users, columns.items)
    progress("read", 2, 2, f"{len(users)} interactions")
    return Interactions(
        users=np.ascontiguousarray(users),
        items=np.ascontiguousarray(items),
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        weights=columns.weights,
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
        timestamps=columns.timestamps,
    )


def positions_of(source: object, header: list[str], names: ColumnNames) -> dict[str, int]:
    """Positions of the columns by their role: user and item, and those with a name; InputError names `source`."""
    positions = {"user": 0, "item": 1} | {role: _find(source, header, name) for role, name in names.named.items()}
    user, item = positions["user"], positions["item"]
    if user == item:
        raise InputError(f"{source}: users and items must be different columns, got {header[user]!r} for both")
    for role, position in positions.items():
        if role not in ("user", "item") and position in (user, item):
            raise InputError(f"{source}: {role}s must be a column of their own, got {header[position]!r}")
    return positions


def _find(source: object, header: list[str], name: str) -> int:
    if name not in header:
        found = ", ".join(repr(column) for column in header if column)
        raise InputError(f"{source}: expected a column {name!r}, the columns are {found}")
    return header.index(name)


def raw_columns(source: object, labels: dict[str, str], columns: dict[str, pa.ChunkedArray]) -> RawColumns:
    """The columns of a table by their role, checked; `labels` are their names in the table."""
    for role in ("user", "item"):
        check_ids(source, labels[role], columns[role])
    numbers: dict[str, np.ndarray] = {}
    for role, column in columns.items():
        if role == "timestamp":
            numbers["timestamps"] = checked_timestamps(source, labels[role], column)
        elif role in ("weight", "rating"):
            minimum = 0.0 if role == "weight" else None
            numbers[f"{role}s"] = checked_numbers(source, labels[role], column, minimum)
    return RawColumns(columns["user"], columns["item"], **numbers)


def check_ids(source: object, label: str, column: pa.ChunkedArray) -> None:
    """Raise InputError where an id is missing, or is a negative integer: these mark missing ids more often than they
    name anything.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{source}: column {label!r} must have an id in every row, data row {row} has none")
    if not pa.types.is_integer(column.type) or not len(column) or pc.min(column).as_py() >= 0:
        return
    row = int(pc.index(pc.less(column, 0), True).as_py())
    raise InputError(
        f"{source}: column {label!r} must hold non-negative integer or string ids, data row {row + 1} has {column[row]}"
    )


def checked_numbers(source: object, label: str, column: pa.ChunkedArray, minimum: float | None) -> np.ndarray:
    """Return a column of numbers, or of strings that may be numbers, as float64; InputError unless all are finite.

    With a `minimum` of 0, also if one is negative.
    """
    import pyarrow as pa

    if pa.types.is_string(column.type):
        values = np.array([_number(cell) for cell in column.to_pylist()])
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = np.ascontiguousarray(column.to_numpy(), dtype=np.float64)
    else:
        raise InputError(f"{source}: column {label!r} must hold numbers, got {column.type}")
    valid = np.isfinite(values)
    if minimum is not None:
        valid &= values >= minimum
    if not valid.all():
        row = int((~valid).argmax())
        got = "no number" if np.isnan(values[row]) else f"{values[row]:g}"
        expected = "finite numbers" if minimum is None else "finite non-negative numbers"
        raise InputError(f"{source}: column {label!r} must hold {expected}, data row {row + 1} has {got}")
    return values


def checked_timestamps(source: object, label: str, column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers, dates or strings of either as int64 or float64; dates count in seconds.

    Raises
    ------
    InputError
        If one is missing, or is neither a finite number nor a date in the form of ISO 8601.
    """
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        for kind in (pa.int64(), pa.float64(), pa.timestamp("us")):
            try:
                column = column.cast(kind)
                break
            except pa.ArrowInvalid:
                continue
    kind = column.type
    expected = f"{source}: column {label!r} must hold numbers or dates such as 2026-11-24T09:30:00"
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        column = column.cast(pa.timestamp("us", getattr(kind, "tz", None))).cast(pa.int64())
        in_microseconds = True
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        in_microseconds = False
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        row, cell = next(
            (row, cell) for row, cell in enumerate(column.to_pylist()) if cell is None or not _is_time(cell)
        )
        raise InputError(f"{expected}, data row {row + 1} has {cell!r}")
    else:
        raise InputError(f"{expected}, got {kind}")
    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{expected}, data row {row} has none")
    values = column.to_numpy()
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise InputError(f"{expected}, data row {row + 1} has {values[row]}")
    if in_microseconds:
        return values / 1e6
    return np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def _is_time(cell: str | None) -> bool:
    """Whether a cell is a number, or a date in the form of ISO 8601."""
    import pyarrow as pa

    try:
        pa.scalar(cell or "").cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return bool(np.isfinite(_number(cell)))
    return True


def _number(cell: str | None) -> float:
    """A cell as a float; NaN for what is none."""
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")


def brief(error: BaseException) -> str:
    """The first line of a library's message, to stand inside one of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
