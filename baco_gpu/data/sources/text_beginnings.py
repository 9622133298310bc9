"""What the beginning of a file of delimited text tells: what divides its lines, its first rows, and its header."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence

import numpy as np

from baco_gpu.data.sources import headers
from baco_gpu.data.sources.cells import are_days
from baco_gpu.data.sources.files import File
from baco_gpu.data.sources.text_ids import INTEGER, is_number
from baco_gpu.errors import InputError, brief

QUOTING = (",", ";", "|")  # delimiters with which cells may stand in quotes
_PEEK_BYTES = 1 << 16
_DELIMITERS = (",", ";", "\t", "|")  # of a .csv file, the first that divides its lines
_DATE = re.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2}))(?:[T ,]|$)|\d{1,2}:\d{2}(?::\d{2}|$)")
_SECONDS = (946684800, 2**31)  # since 1970, from 2000 on: a time that looks like an id
_NO_TABLE = re.compile(
    r"\s*(?:[{\[]\s*[\"{\[]|<(?:!doctype|\?xml|html|head|body)\b)|PAR1|ARROW1|(?s:.*)\0", re.IGNORECASE
)
_MOST_NAMELESS = 4  # numbers in a line without a header: user, item, rating and timestamp


def beginning(file: File) -> str:
    """The first whole lines of a file; InputError where it cannot be read, or is no text in UTF-8."""
    try:
        with file.open() as stream:
            data = stream.read(_PEEK_BYTES)
    except OSError as error:
        raise unreadable(file, error) from error
    if len(data) == _PEEK_BYTES and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at {error.start}") from error


def unreadable(file: File, error: OSError) -> InputError:
    """What to say of a file that cannot be read, as one that is compressed in another way."""
    inner, outer = file.suffixes
    return InputError(f"{file}: expected a {outer or inner} file, but it cannot be read ({brief(error)})")


def delimiter_of(files: Sequence[File], texts: Sequence[str]) -> str:
    """What divides the lines of .csv files: a comma, unless another letter does and a comma does not."""
    file, text = next(((file, text) for file, text in zip(files, texts, strict=True) if text.strip()), (files[0], ""))
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in first_rows(file, text, delimiter)[0]]
        if delimiter == "," and (not widths or widths[0] > 1):
            break
        if widths[0] > 1 and len(set(widths)) == 1:
            return delimiter
    return ","


def first_rows(file: File, text: str, delimiter: str) -> tuple[list[list[str]], int]:
    """Return the rows of the text that begins a file, and how many lines the first of them ends after.

    Blank rows are left out.
    """
    if _NO_TABLE.match(text):
        raise InputError(f"{file}: expected text separated by {delimiter!r}, got something else: {text[:20]!r}, ...")
    source = io.StringIO(text, newline="")
    if delimiter in QUOTING:
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
            f"{file}: expected text separated by {delimiter!r}, but it cannot be read ({error})"
        ) from error
    return rows, first_line


def has_header(sample: list[list[str]]) -> bool:
    """Whether a first row is a header, by its words and by the rows below it."""
    first, below = sample[0], sample[1:]
    if all(any(headers.says(name, role) for name in first) for role in ("user", "item")):
        return True
    if any(map(headers.is_no_id, first)):
        return True
    numbers = list(map(str, range(len(first) - 1)))
    if headers.numbers_rows(first[0]) and len(first) > 2 and (first[1:] == numbers or not any(map(is_number, first))):
        return True  # pandas writes its index first, mostly without a name, and numbers columns that have none
    if len(first) > 2 and _may_be_corner(first[0]) and all(map(_is_cell, first[1:])):
        return True  # of a matrix, whose columns have numbers for names
    if any(map(is_number, first)) or not below:
        return False
    if any(map(is_number, below[0])):
        return True
    if any(map(_has_digit, first)):
        return False
    columns = ([cell for cell in column if cell] for column in zip(*below, strict=False))
    return any(cells and all(map(_has_digit, cells)) for cells in columns)


def check_nameless(file: File, rows: list[list[str]]) -> None:
    """Refuse lines without a header that do not begin with a user and an item; warn of those that may not."""
    if len(rows[0]) > _MOST_NAMELESS and all(_is_cell(cell) for row in rows for cell in row[1:]):
        raise InputError(
            f"{file}: expected lines of a user, an item, a rating and a time, or a header, got {len(rows[0])} numbers "
            "a line (a matrix of users by items is no table of pairs: BipartiteGraph.from_dense takes its values)"
        )
    columns = [[row[at] for row in rows if len(row) > at] for at in (0, 1)]
    for at, cells in enumerate(columns):
        if len(cells) > 2 and not is_number(cells[0]) and all(map(is_number, cells[1:])):
            raise InputError(
                f"{file}: expected a header or an interaction in the first line, got {cells[0]!r} above numbers in "
                f"column {at + 1}, and numbers beside it (name all columns in the first line)"
            )
        if all(map(_DATE.match, cells)):
            raise InputError(
                f"{file}: expected a user and an item to begin a line, or a header, got dates such as {cells[0]!r} in "
                f"column {at + 1} (name the columns in a first line)"
            )
    first = [cells[0] for cells in columns]
    if len(rows) > 1 and not any(map(_has_digit, first)) and not any(cells[0] in cells[1:] for cells in columns):
        _warn(f"{file}: no header was found, and {first[0]!r} with {first[1]!r} is the first interaction")
    elif len(rows) > 2 and len(rows[0]) > 2:
        for name, cells in zip(("users", "items"), columns, strict=True):
            if _are_numbers_of_rows(cells) or _are_times(cells):
                _warn(f"{file}: no header was found, and the {name} of the first rows are {', '.join(cells[:3])}, ...")


def _may_be_corner(cell: str) -> bool:
    """Whether a cell may stand above the users of a matrix: 'shopper', 'user/item', or what rows are numbered by."""
    parts = re.split(r"[/\\\\|]", cell)
    return headers.numbers_rows(cell) or any(headers.says(part, "user") for part in parts)


def _is_cell(cell: str) -> bool:
    """Whether this may be a cell of a matrix: a number, or nothing."""
    return not cell or is_number(cell)


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
    warnings.warn(f"{what} ({hint})", stacklevel=6)


def _has_digit(cell: str) -> bool:
    return any(map(str.isdigit, cell))
