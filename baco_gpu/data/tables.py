"""Columns of raw ids and weights from CSV, TSV and Parquet files, read with pandas.

pandas was measured against pyarrow, polars and duckdb (benchmarks/loading.py): reading 20 million rows and numbering
both columns, none was clearly ahead of it, and it is at hand wherever PyTorch images are.
"""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baco_gpu.errors import InputError

_PEEK_BYTES = 1 << 16
_INTEGER = re.compile(r"\s*[+-]?\d{1,19}\s*")
# Column names that mark a first row as a header where nothing else does: both rows are text.
_HEADER_WORD = re.compile(
    r"\W*(user|item|customer|visitor|session|reader|reviewer|product|article|movie|book|song|artist|track|business|"
    r"uid|iid|sid|asin)s?[\s_-]?(id|ids|name|key|index|idx|no|number)?\W*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ColumnNames:
    """Which columns to read; None stands for the first (user), the second (item), and no weights."""

    user: str | None = None
    item: str | None = None
    weight: str | None = None

    @property
    def any_named(self) -> bool:
        return any(name is not None for name in (self.user, self.item, self.weight))


@dataclass(frozen=True)
class RawColumns:
    """What a table holds: two pandas Series of integers or strings without gaps, and float64 weights or None."""

    users: Any
    items: Any
    weights: np.ndarray | None


def read_delimited(path: Path, delimiter: str, names: ColumnNames) -> RawColumns:
    """Read two or three columns of a UTF-8 text file with one interaction a line.

    A first line is a header if columns are asked for by name, if a number stands below a word, or if its first two
    cells look like names of id columns. A column of nothing but integers holds integer ids; any other holds strings,
    each exactly as it stands in the file.

    Raises
    ------
    InputError
        For an empty file, a header alone, fewer than two columns, a missing column, a line of too many cells, an empty
        id, a weight that is no finite non-negative number, or bytes that are no UTF-8.
    """
    sample = _first_rows(path, delimiter)
    if not sample:
        raise InputError(f"{path}: expected interactions, got an empty file")
    width = len(sample[0])
    if width < 2:
        raise InputError(f"{path}: expected at least two columns separated by {delimiter!r}, got one: {sample[0][0]!r}")
    has_header = names.any_named or _has_header(sample)
    positions = _positions(path, sample[0] if has_header else None, width, names)
    rows = sample[has_header:]
    if not rows:
        raise InputError(f"{path}: expected interactions below the header, got none")
    integer = [all(len(row) > at and _INTEGER.fullmatch(row[at]) for row in rows) for at in positions[:2]]
    frame = _read_frame(path, delimiter, has_header, width, positions, integer)
    if len(frame) == 0:
        raise InputError(f"{path}: expected interactions below the header, got none")
    labels = [sample[0][at] if has_header else str(at + 1) for at in positions]
    for at, label in zip(positions[:2], labels[:2], strict=True):
        _refuse_missing(path, label, frame[at].isna().to_numpy())
    weights = _checked_weights(path, labels[2], frame[positions[2]].to_numpy()) if len(positions) == 3 else None
    return RawColumns(frame[positions[0]], frame[positions[1]], weights)


def read_parquet(path: Path, names: ColumnNames) -> RawColumns:
    """Read two or three columns of a Parquet file: ids are integers, strings or dictionaries of them.

    Raises
    ------
    InputError
        For a file that is not Parquet or damaged, without rows, with fewer than two columns or without a named one, ids
        of another type, missing values, or weights that are not finite and non-negative.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        header = pyarrow.parquet.read_schema(path).names
        if len(header) < 2:
            raise InputError(f"{path}: expected at least two columns, got {len(header)}")
        positions = _positions(path, header, len(header), names)
        labels = [header[at] for at in positions]
        table = pyarrow.parquet.read_table(path, columns=labels)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file, but it cannot be read ({_first_line(error)})") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: expected interactions, got a table without rows")
    ids = [_parquet_ids(path, label, table.column(label)) for label in labels[:2]]
    weights = None
    if len(labels) == 3:
        column = table.column(labels[2])
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(f"{path}: column {labels[2]!r} must hold numbers, got {column.type}")
        weights = _checked_weights(path, labels[2], column.to_numpy())
    return RawColumns(ids[0], ids[1], weights)


def _parquet_ids(path: Path, label: str, column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if column.null_count:
        _refuse_missing(path, label, column.is_null().to_numpy())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.to_pandas()
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: column {label!r} must hold integer or string ids, got {kind}")
    try:
        return column.cast(pa.int64()).to_pandas()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: column {label!r} must fit in 64-bit signed integers ({error})") from error


def _first_rows(path: Path, delimiter: str) -> list[list[str]]:
    """The rows that begin the file, without blank ones and without one that the sample cuts in two."""
    with path.open("rb") as stream:
        data = stream.read(_PEEK_BYTES)
        whole = len(data) < _PEEK_BYTES
    if not whole and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at {error.start}") from error
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InputError(
            f"{path}: expected text separated by {delimiter!r}, but it cannot be read ({error})"
        ) from error


def _has_header(sample: list[list[str]]) -> bool:
    first, second = sample[0], sample[1] if len(sample) > 1 else []
    if any(_is_number(below) and not _is_number(cell) for cell, below in zip(first, second, strict=False)):
        return True
    return all(_HEADER_WORD.fullmatch(cell.partition(":")[0]) for cell in first[:2])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _positions(path: Path, header: list[str] | None, width: int, names: ColumnNames) -> list[int]:
    """Positions of the user, the item and, if there are weights, the weight column."""
    wanted = [(names.user, 0), (names.item, 1)]
    positions = [default if name is None else _find(path, header, name) for name, default in wanted]
    if positions[0] == positions[1]:
        label = header[positions[0]] if header else positions[0] + 1
        raise InputError(f"{path}: users and items must be different columns, got {label!r} for both")
    if names.weight is not None:
        weight = _find(path, header, names.weight)
        if weight in positions:
            raise InputError(f"{path}: weights must be a column of their own, got {names.weight!r}")
        positions.append(weight)
    return positions


def _find(path: Path, header: list[str] | None, name: str) -> int:
    if header is None or name not in header:
        found = ", ".join(map(repr, header or []))
        raise InputError(f"{path}: expected a column {name!r}, the columns are {found}")
    return header.index(name)


def _read_frame(
    path: Path, delimiter: str, has_header: bool, width: int, positions: list[int], integer: list[bool]
) -> Any:
    import pandas as pd

    id_types = ["int64" if whole else "str" for whole in integer]
    types: dict[int, str] = dict(zip(positions[:2], id_types, strict=True))
    if len(positions) == 3:
        types[positions[2]] = "float64"

    def read(**options: Any) -> Any:
        return pd.read_csv(
            path,
            sep=delimiter,
            header=None,
            names=list(range(width)),
            index_col=False,
            usecols=sorted(types) if len(types) < width else None,
            skiprows=int(has_header),
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
            **options,
        )

    try:
        return read(dtype=types)
    except pd.errors.ParserError as error:
        raise InputError(f"{path}: expected {width} cells a line ({_first_line(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, but it cannot be read ({error})") from error
    except (ValueError, OverflowError):
        # The sample promised integers or numbers, and further down something else came: read text, convert what can be.
        frame = read(dtype="str")
    for at, whole in zip(positions, integer, strict=False):
        if whole:
            with suppress(ValueError, OverflowError):
                frame[at] = frame[at].astype("int64")
    for at in positions[2:]:
        numbers = pd.to_numeric(frame[at], errors="coerce")
        frame[at] = numbers.to_numpy(dtype="float64", na_value=np.nan)
    return frame


def _refuse_missing(path: Path, label: str, missing: np.ndarray) -> None:
    if missing.any():
        row = int(missing.argmax()) + 1
        raise InputError(f"{path}: column {label!r} must have an id in every row, data row {row} has none")


def _checked_weights(path: Path, label: str, values: np.ndarray) -> np.ndarray:
    weights = np.ascontiguousarray(values, dtype=np.float64)
    valid = np.isfinite(weights) & (weights >= 0)
    if not valid.all():
        row = int((~valid).argmax())
        got = "no number" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise InputError(
            f"{path}: column {label!r} must hold finite non-negative numbers, data row {row + 1} has {got}"
        )
    return weights


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
