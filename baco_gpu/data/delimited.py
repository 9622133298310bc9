"""Columns of raw ids, weights, ratings and timestamps from text with one interaction a line."""

from __future__ import annotations

import csv
import io
import mmap
import re
from pathlib import Path
from typing import TYPE_CHECKING

from baco_gpu.data.tables import ColumnNames, RawColumns, brief, positions_of, raw_columns
from baco_gpu.errors import InputError

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


def read_delimited(path: Path, delimiter: str, names: ColumnNames, header: list[str] | None = None) -> RawColumns:
    """Read some columns of a UTF-8 text file with one interaction a line.

    A first line is a header if columns are asked for by name, if a number stands below a word, or if its first two
    cells look like names of id columns; a `header` that is given is that of a file without one. A column of nothing but
    integers holds integer ids; any other holds strings, each exactly as it stands in the file.

    Raises
    ------
    InputError
        For an empty file, a header alone, fewer than two columns, a missing column, a line of too many cells, an empty,
        negative or fractional id, a weight that is no finite non-negative number, or bytes that are no UTF-8.
    """
    sample, header_lines = first_rows(path, delimiter)
    if not sample:
        raise InputError(f"{path}: expected interactions, got an empty file")
    width = len(sample[0])
    if width < 2:
        raise InputError(f"{path}: expected at least two columns separated by {delimiter!r}, got one: {sample[0][0]!r}")
    has_header = header is None and (bool(names.named) or _has_header(sample))
    if has_header:
        header = sample[0]
    positions = positions_of(path, header or [str(at + 1) for at in range(width)], names)
    rows = sample[has_header:]
    if not rows:
        raise InputError(f"{path}: expected interactions below the header, got none")
    labels = {role: header[at] if header else str(at + 1) for role, at in positions.items()}
    cells = {role: [row[at] for row in rows if len(row) > at] for role, at in positions.items()}
    integer = {role for role, column in cells.items() if all(map(_INTEGER.fullmatch, column))}
    for role in {"user", "item"} - integer:
        fraction = next((cell for cell in cells[role] if not _WHOLE.fullmatch(cell)), None)
        if fraction is not None and all(map(_is_number, cells[role])):
            raise InputError(f"{path}: column {labels[role]!r} must hold integer or string ids, got {fraction}")
    kinds = {role: _kind(role, cells[role], role in integer) for role in positions}
    columns = _parse(path, delimiter, header_lines if has_header else 0, width, positions, kinds)
    return raw_columns(path, labels, columns)


def _kind(role: str, cells: list[str], integer: bool) -> pa.DataType:
    """The type that a sample of a column's cells promises."""
    import pyarrow as pa

    if role in ("weight", "rating"):
        return pa.float64()
    if integer:
        return pa.int64()
    return pa.float64() if role == "timestamp" and all(map(_is_number, cells)) else pa.string()


def first_rows(path: Path, delimiter: str) -> tuple[list[list[str]], int]:
    """Return the rows that begin the file, and how many lines the first of them ends after.

    Blank rows are left out, and one that the sample cuts in two.
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


def _parse(
    path: Path, delimiter: str, skip: int, width: int, positions: dict[str, int], kinds: dict[str, pa.DataType]
) -> dict[str, pa.ChunkedArray]:
    """The columns by their role, of the kinds promised or as strings; empty cells are null."""
    import pyarrow as pa
    import pyarrow.csv

    names = [str(at) for at in range(width)]
    newlines = _has_quotes(path, skip)

    def parse(types: dict[str, pa.DataType], threads: bool) -> pa.Table:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=skip, block_size=_BLOCK_BYTES, use_threads=threads
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=newlines),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
            ),
        )

    promised = {names[at]: kinds[role] for role, at in positions.items()}
    try:
        try:
            table = parse(promised, threads=True)
        except pa.ArrowInvalid:
            # The sample promised integers or numbers, and further down something else may have come: read text, convert
            # what can be. What is wrong in another way fails once more; a single thread knows the row.
            table = parse(dict.fromkeys(promised, pa.string()), threads=False)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: expected UTF-8 text of {width} cells a line ({brief(error)})") from error
    columns = {role: table.column(names[at]) for role, at in positions.items()}
    whole = [role for role in ("user", "item") if pa.types.is_integer(kinds[role])]
    return columns | {role: _as_integers(columns[role]) for role in whole}


def _has_quotes(path: Path, skip: int) -> bool:
    """Whether a value after the first `skip` lines may hold a line break: only a quoted one can, and to expect it costs
    a third of the parsing.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(skip):
            content.readline()
        return content.find(b'"', content.tell()) >= 0


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of strings as int64, if every one is an integer; otherwise as it is."""
    import pyarrow as pa

    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
