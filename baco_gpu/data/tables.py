"""Columns of raw ids and weights from CSV, TSV and Parquet files, read with Arrow.

Arrow was measured against polars, duckdb and pandas (benchmarks/loading.py, benchmarks/results/loading.md): the fastest
on integer text, and about level with polars over all. It is a package that images with PyTorch and pandas have already.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.columns import factorize
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

_PEEK_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 24  # what one thread parses at once, and the longest line; measured best for strings
_WHOLE = re.compile(r"\s*-?\d+\s*")
_INTEGER = re.compile(r"\s*-?\d{1,19}\s*")
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
    """What a table holds: two Arrow columns of int64 or strings (or dictionaries of strings), without gaps; and float64
    weights or None.
    """

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    weights: np.ndarray | None


def interactions_of(columns: RawColumns, progress: Progress = silent) -> Interactions:
    """Number the raw ids of a table."""
    progress("read", 1, 3, "number the users")
    users, user_vocabulary = factorize(columns.users)
    progress("read", 2, 3, "number the items")
    items, item_vocabulary = factorize(columns.items)
    progress("read", 3, 3, f"{len(users)} interactions")
    return Interactions(
        users=np.ascontiguousarray(users),
        items=np.ascontiguousarray(items),
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        weights=columns.weights,
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
    )


def read_delimited(path: Path, delimiter: str, names: ColumnNames) -> RawColumns:
    """Read two or three columns of a UTF-8 text file with one interaction a line.

    A first line is a header if columns are asked for by name, if a number stands below a word, or if its first two
    cells look like names of id columns. A column of nothing but integers holds integer ids; any other holds strings,
    each exactly as it stands in the file.

    Raises
    ------
    InputError
        For an empty file, a header alone, fewer than two columns, a missing column, a line of too many cells, an empty,
        negative or fractional id, a weight that is no finite non-negative number, or bytes that are no UTF-8.
    """
    sample, header_lines = _first_rows(path, delimiter)
    if not sample:
        raise InputError(f"{path}: expected interactions, got an empty file")
    width = len(sample[0])
    if width < 2:
        raise InputError(f"{path}: expected at least two columns separated by {delimiter!r}, got one: {sample[0][0]!r}")
    has_header = names.any_named or _has_header(sample)
    positions = _positions(path, sample[0] if has_header else None, names)
    rows = sample[has_header:]
    if not rows:
        raise InputError(f"{path}: expected interactions below the header, got none")
    labels = [sample[0][at] if has_header else str(at + 1) for at in positions]
    cells = [[row[at] for row in rows if len(row) > at] for at in positions[:2]]
    integer = [all(map(_INTEGER.fullmatch, column)) for column in cells]
    for label, column, whole in zip(labels[:2], cells, integer, strict=True):
        fraction = next((cell for cell in column if not _WHOLE.fullmatch(cell)), None)
        if not whole and fraction is not None and all(map(_is_number, column)):
            raise InputError(f"{path}: column {label!r} must hold integer or string ids, got {fraction}")
    columns = _parse(path, delimiter, header_lines if has_header else 0, width, positions, integer)
    for column, label in zip(columns[:2], labels[:2], strict=True):
        _refuse_missing(path, label, column)
        _refuse_negative(path, label, column)
    weights = _checked_weights(path, labels[2], _numbers(columns[2])) if len(columns) == 3 else None
    return RawColumns(columns[0], columns[1], weights)


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
        positions = _positions(path, header, names)
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


def _parquet_ids(path: Path, label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    _refuse_missing(path, label, column)
    if (pa.types.is_string(kind) and column.nbytes < 2**31) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())  # whose one chunk may hold more than 2 GiB
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: column {label!r} must hold integer or string ids, got {kind}")
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: column {label!r} must fit in 64-bit signed integers ({error})") from error
    _refuse_negative(path, label, integers)
    return integers


def _first_rows(path: Path, delimiter: str) -> tuple[list[list[str]], int]:
    """The rows that begin the file, without blank ones and without one that the sample cuts in two; and how many lines
    the first of them ends after.
    """
    with path.open("rb") as stream:
        data = stream.read(_PEEK_BYTES)
        whole = len(data) < _PEEK_BYTES
    if not whole and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at {error.start}") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, first_line = [], 0
    try:
        for row in reader:
            if row:
                first_line = first_line or reader.line_num
                rows.append(row)
    except csv.Error as error:
        raise InputError(
            f"{path}: expected text separated by {delimiter!r}, but it cannot be read ({error})"
        ) from error
    return rows, first_line


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


def _positions(path: Path, header: list[str] | None, names: ColumnNames) -> list[int]:
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


def _parse(
    path: Path, delimiter: str, skip: int, width: int, positions: list[int], integer: list[bool]
) -> list[pa.ChunkedArray]:
    """The columns at `positions`, ids as int64 or as dictionaries of strings; empty cells are null."""
    import pyarrow as pa
    import pyarrow.csv

    text = pa.dictionary(pa.int32(), pa.large_string())

    def parse(types: list[pa.DataType], threads: bool) -> list[pa.ChunkedArray]:
        names = [str(at) for at in range(width)]
        wanted = [names[at] for at in positions]
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=skip, block_size=_BLOCK_BYTES, use_threads=threads
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict(zip(wanted, types, strict=True)),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        return [table.column(name) for name in wanted]

    expected = [pa.int64() if whole else text for whole in integer] + [pa.float64()] * (len(positions) - 2)
    try:
        try:
            return parse(expected, threads=True)
        except pa.ArrowInvalid:
            # The sample promised integers or numbers, and further down something else may have come: read text, convert
            # what can be. What is wrong in another way fails once more; a single thread knows the row.
            columns = parse([text] * len(positions), threads=False)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: expected UTF-8 text of {width} cells a line ({_first_line(error)})") from error
    return [
        _as_integers(column) if whole else column for column, whole in zip(columns, [*integer, False], strict=False)
    ]


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary of strings as int64, if every one is an integer; otherwise as it is."""
    import pyarrow as pa

    try:
        return column.cast(pa.large_string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, or of strings that may be numbers, as float64; NaN for what is none."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return column.to_numpy()
    return np.array([float(cell) if cell and _is_number(cell) else np.nan for cell in column.to_pylist()])


def _refuse_missing(path: Path, label: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{path}: column {label!r} must have an id in every row, data row {row} has none")


def _refuse_negative(path: Path, label: str, column: pa.ChunkedArray) -> None:
    """Negative integers are refused: they mark missing ids more often than they name anything."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(column.type) or not len(column) or pc.min(column).as_py() >= 0:
        return
    row = int(pc.index(pc.less(column, 0), True).as_py())
    raise InputError(
        f"{path}: column {label!r} must hold non-negative integer or string ids, data row {row + 1} has {column[row]}"
    )


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
