"""Columns of raw ids, weights, ratings and timestamps from text with one interaction a line."""

from __future__ import annotations

import csv
import io
import mmap
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data import headers
from baco_gpu.data.cells import are_days
from baco_gpu.data.headers import ColumnNames, positions_of
from baco_gpu.data.quoting import quoted_lines
from baco_gpu.data.raw_columns import RawColumns, brief, raw_columns
from baco_gpu.data.text_ids import INTEGER, is_number, settled
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".br")
_PEEK_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 24  # what one thread parses at once, and the longest line; measured best for strings
_DELIMITERS = (",", ";", "\t", "|")  # of a .csv file, the first that divides its lines
_QUOTING = (",", ";", "|")  # those with which cells may stand in quotes
_DATE = re.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2}))(?:[T ,]|$)|\d{1,2}:\d{2}(?::\d{2}|$)")
_SECONDS = (946684800, 2**31)  # since 1970, from 2000 on: a time that looks like an id
_NO_TABLE = re.compile(
    r"\s*(?:[{\[]\s*[\"{\[]|<(?:!doctype|\?xml|html|head|body)\b)|PAR1|ARROW1|(?s:.*)\0", re.IGNORECASE
)
_MOST_NAMELESS = 4  # numbers in a line without a header: user, item, rating and timestamp
_ROWS_IN_A_CELL = 10  # lines that all look like rows of strings before they are taken for rows


def read_delimited(path: Path, delimiter: str, names: ColumnNames, header: list[str] | None = None) -> RawColumns:
    """Read some columns of a UTF-8 text file with one interaction a line, which may be compressed.

    Where the `delimiter` is a comma and divides nothing, a semicolon, a tab or a vertical bar does. Cells may stand in
    quotes unless tabs (or colons) divide them: there a quote is a letter.

    A first line is a header if columns are asked for by name, if a number stands below a word, if its cells look like
    names of id columns, or if digits stand below words alone; a `header` that is given is that of a file without one.
    Users and items are what their names say, see `positions_of`; without a header, the first two columns. A column of
    nothing but integers holds integer ids; any other holds strings, each exactly as it stands in the file.

    Raises
    ------
    InputError
        For an empty file, a header alone, fewer than two columns, a missing column, names that leave open which columns
        are users and items, a line of too many cells, a quote that is not closed, an empty, negative or fractional id,
        a word for a missing one among integers, a weight that is no finite non-negative number, or bytes that are no
        UTF-8.
    """
    delimiter = _delimiter(path) if delimiter == "," else delimiter
    sample, header_lines = first_rows(path, delimiter)
    if not sample:
        raise InputError(f"{path}: expected interactions, got an empty file")
    width = len(sample[0])
    if width < 2:
        raise InputError(f"{path}: expected at least two columns separated by {delimiter!r}, got one: {sample[0][0]!r}")
    has_header = header is None and (bool(names.named) or _has_header(sample))
    if has_header:
        header = sample[0]
    elif header is None:
        _check_nameless(path, sample)
    labels_of_all = header or [str(at + 1) for at in range(width)]
    positions = positions_of(path, labels_of_all, names, nameless=header is None)
    rows = sample[has_header:]
    if not rows:
        raise InputError(f"{path}: expected interactions below the header, got none")
    labels = {role: labels_of_all[at] for role, at in positions.items()}
    cells = {role: [row[at] for row in rows if len(row) > at] for role, at in positions.items()}
    kinds = {role: _kind(role, column) for role, column in cells.items()}
    columns = _parse(path, delimiter, header_lines if has_header else 0, width, positions, kinds)
    if has_header:
        _check_no_header_again(path, labels, columns)
    for role in ("user", "item"):
        columns[role] = settled(path, labels[role], columns[role], cells[role])
    return raw_columns(path, labels, columns)


def _kind(role: str, cells: list[str]) -> pa.DataType:
    """The type that a sample of a column's cells promises."""
    import pyarrow as pa

    if role in ("weight", "rating"):
        return pa.float64()
    if all(map(INTEGER.fullmatch, cells)):
        return pa.int64()
    return pa.float64() if role == "timestamp" and all(map(is_number, cells)) else pa.string()


def _check_no_header_again(path: Path, labels: dict[str, str], columns: dict[str, pa.ChunkedArray]) -> None:
    """Refuse files that were put behind one another together with their headers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs = [(columns[role], labels[role]) for role in ("user", "item")]
    if not all(pa.types.is_string(column.type) for column, _ in pairs):
        return
    row = pc.index(pc.and_(*(pc.equal(column, label) for column, label in pairs)), True).as_py()
    if row >= 0:
        raise InputError(f"{path}: expected one header, and data row {row + 1} is it once more")


def _delimiter(path: Path) -> str:
    """What divides the lines of a .csv file: a comma, unless another letter does and a comma does not."""
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in first_rows(path, delimiter)[0]]
        if delimiter == "," and (not widths or widths[0] > 1):
            break
        if widths[0] > 1 and len(set(widths)) == 1:
            return delimiter
    return ","


def first_rows(path: Path, delimiter: str) -> tuple[list[list[str]], int]:
    """Return the rows that begin the file, and how many lines the first of them ends after.

    Blank rows are left out, and one that the sample cuts in two.
    """

    try:
        with _stream(path) as stream:
            data = stream.read(_PEEK_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    whole = len(data) < _PEEK_BYTES
    if not whole and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at {error.start}") from error
    if _NO_TABLE.match(text):
        raise InputError(f"{path}: expected text separated by {delimiter!r}, got something else: {text[:20]!r}, ...")
    source = io.StringIO(text, newline="")
    if delimiter in _QUOTING:
        reader = csv.reader(source, delimiter=delimiter)
    else:
        reader = csv.reader(source, delimiter=delimiter, quoting=csv.QUOTE_NONE)
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
    """Whether a first row is a header, by its words and by the rows below it."""
    first, below = sample[0], sample[1:]
    if all(any(headers.says(name, role) for name in first) for role in ("user", "item")):
        return True
    if any(map(headers.is_no_id, first)):
        return True
    numbers = list(map(str, range(len(first) - 1)))
    if headers.numbers_rows(first[0]) and len(first) > 2 and (first[1:] == numbers or not any(map(is_number, first))):
        return True  # pandas writes its index first, mostly without a name, and numbers columns that have none
    if any(map(is_number, first)) or not below:
        return False
    if any(map(is_number, below[0])):
        return True
    if any(map(_has_digit, first)):
        return False
    columns = ([cell for cell in column if cell] for column in zip(*below, strict=False))
    return any(cells and all(map(_has_digit, cells)) for cells in columns)


def _check_nameless(path: Path, rows: list[list[str]]) -> None:
    """Refuse lines without a header that do not begin with a user and an item; warn of those that may not."""
    if len(rows[0]) > _MOST_NAMELESS and all(is_number(cell) for row in rows for cell in row):
        raise InputError(
            f"{path}: expected lines of a user, an item, a rating and a time, or a header, got {len(rows[0])} numbers "
            "a line (a matrix of users by items is no table of pairs: BipartiteGraph.from_dense takes its values)"
        )
    columns = [[row[at] for row in rows if len(row) > at] for at in (0, 1)]
    for at, cells in enumerate(columns):
        if all(map(_DATE.match, cells)):
            raise InputError(
                f"{path}: expected a user and an item to begin a line, or a header, got dates such as {cells[0]!r} in "
                f"column {at + 1} (name the columns in a first line)"
            )
    first = [cells[0] for cells in columns]
    if len(rows) > 1 and not any(map(_has_digit, first)) and not any(cells[0] in cells[1:] for cells in columns):
        _warn(f"{path}: no header was found, and {first[0]!r} with {first[1]!r} is the first interaction")
    elif len(rows) > 2 and len(rows[0]) > 2:
        for name, cells in zip(("users", "items"), columns, strict=True):
            if _are_numbers_of_rows(cells) or _are_times(cells):
                _warn(f"{path}: no header was found, and the {name} of the first rows are {', '.join(cells[:3])}, ...")


def _are_numbers_of_rows(cells: list[str]) -> bool:
    """Whether cells count up by ones, from wherever a part of a larger file begins."""
    return cells[0].isdecimal() and cells == list(map(str, range(int(cells[0]), int(cells[0]) + len(cells))))


def _are_times(cells: list[str]) -> bool:
    """Whether all cells are seconds or milliseconds since 1970, or days such as 20261130."""
    if not all(map(INTEGER.fullmatch, cells)):
        return False
    values = np.array(cells, dtype=np.float64)
    low, high = _SECONDS
    return any(bool(((low * unit <= values) & (values < high * unit)).all()) for unit in (1, 1000)) or are_days(values)


def _warn(what: str) -> None:
    hint = "where that is wrong, name the columns in a first line, or --user-column and --item-column"
    warnings.warn(f"{what} ({hint})", stacklevel=4)


def _has_digit(cell: str) -> bool:
    return any(map(str.isdigit, cell))


def _parse(
    path: Path, delimiter: str, skip: int, width: int, positions: dict[str, int], kinds: dict[str, pa.DataType]
) -> dict[str, pa.ChunkedArray]:
    """The columns by their role, of the kinds promised or as strings; empty cells are null."""
    import pyarrow as pa
    import pyarrow.csv

    names = [str(at) for at in range(width)]
    promised = {names[at]: kinds[role] for role, at in positions.items()}
    quoting = delimiter in _QUOTING
    with _content(path) as content:
        rows = _line_start(content, skip)
        newlines = quoting and content.find(b'"', rows) >= 0
        if newlines:
            newlines = _has_lines(path, content, rows, delimiter, _rows_in_a_cell(delimiter, width, positions, kinds))
        # Arrow would take 0x1f for an integer, and only where it expects one.
        hexadecimal = pa.int64() in kinds.values() and any(_has(content, mark, rows) for mark in (b"0x", b"0X"))
        source = content if isinstance(content, bytes) else None

    def parse(types: dict[str, pa.DataType], threads: bool) -> pa.Table:
        return pyarrow.csv.read_csv(
            _stream(path) if source is None else pa.BufferReader(source),
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=skip, block_size=_BLOCK_BYTES, use_threads=threads
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoting else False, newlines_in_values=newlines
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
            ),
        )

    try:
        try:
            table = parse(dict.fromkeys(promised, pa.string()) if hexadecimal else promised, threads=True)
        except pa.ArrowInvalid:
            # The sample promised integers or numbers, and further down something else may have come: read text, convert
            # what can be. What is wrong in another way fails once more; a single thread knows the row.
            table = parse(dict.fromkeys(promised, pa.string()), threads=False)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: expected UTF-8 text of {width} cells a line ({brief(error)})") from error
    return {role: table.column(names[at]) for role, at in positions.items()}


def _stream(path: Path) -> pa.NativeFile:
    """The file, decompressed by its suffix; its name may be of any bytes, and Arrow takes a string for UTF-8."""
    import pyarrow as pa

    file = pa.OSFile(os.fsencode(path))
    compressed = path.suffix.lower() in COMPRESSED
    return pa.CompressedInputStream(file, pa.Codec.detect(f"x{path.suffix.lower()}").name) if compressed else file


@contextmanager
def _content(path: Path) -> Iterator[bytes | mmap.mmap]:
    """The bytes of the file: mapped, or those that it is the compression of."""

    if path.suffix.lower() in COMPRESSED:
        try:
            with _stream(path) as stream:
                unpacked = stream.read()
        except OSError as error:
            raise _unreadable(path, error) from error
        yield unpacked
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: expected a {path.suffix} file, but it cannot be read ({brief(error)})")


def _line_start(content: bytes | mmap.mmap, skip: int) -> int:
    """Where the lines after the first `skip` begin."""
    start = 0
    for _ in range(skip):
        end = content.find(b"\n", start)
        start = end + 1 if end >= 0 else len(content)
    return start


def _has(content: bytes | mmap.mmap, mark: bytes, start: int) -> bool:
    """Whether two letters stand side by side: the second is looked for first, where it is rare that is quick."""
    return content.find(mark[1:], start) >= 0 and content.find(mark, start) >= 0


def _rows_in_a_cell(
    delimiter: str, width: int, positions: dict[str, int], kinds: dict[str, pa.DataType]
) -> re.Pattern[bytes]:
    """What a cell of several lines holds that has no closing quote of its own: the end of its line, and rows.

    Integers where the table has integer ids tell a row from other text; of rows without integers it takes many.
    """
    import pyarrow as pa

    mark = re.escape(delimiter.encode())
    integer = {positions[role] for role in ("user", "item") if pa.types.is_integer(kinds[role])}
    cells = [rb"\s*-?\d+\s*" if at in integer else rb"[^\n" + mark + rb"]*" for at in range(width)]
    least = b"+" if integer else b"{%d,}" % _ROWS_IN_A_CELL
    return re.compile(rb"(?:\n" + mark.join(cells) + rb")" + least)


def _has_lines(path: Path, content: bytes | mmap.mmap, start: int, delimiter: str, rows: re.Pattern[bytes]) -> bool:
    """Whether a cell goes over several lines: to expect that costs a third of the parsing."""
    place, has_lines = quoted_lines(content, start, delimiter, rows)
    if place is not None:
        line = content[:place].count(b"\n") + 1
        raise InputError(
            f"{path}: expected quotes that close where their cell ends, the one that opens a cell in line {line} does "
            "not (put a cell with a quote in quotes and double that, or write a .tsv, where quotes are letters)"
        )
    return has_lines
