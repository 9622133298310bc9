"""Delimited text: a line an interaction."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from baco_gpu.data.sources.files import File, Files
from baco_gpu.data.sources.formats import FileRows, Format, Reading
from baco_gpu.data.sources.headers import labels_of
from baco_gpu.data.sources.quoting import quoted_lines
from baco_gpu.data.sources.rows import Anew, Batch
from baco_gpu.data.sources.text_beginnings import (
    QUOTING,
    beginning,
    check_nameless,
    delimiter_of,
    first_rows,
    has_header,
    unreadable,
)
from baco_gpu.data.sources.text_ids import INTEGER, is_number, number, settled
from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 1 << 24  # what is parsed at once, and the longest line; measured best for strings
_AT_ONCE = 16  # files whose beginnings are read: what waits is a remote file system
_ROWS_IN_A_CELL = 10  # lines that all look like rows of strings before they are taken for rows


@dataclass(frozen=True)
class _Text:
    """A file with rows: its number in the table, the lines before its rows, their width, and where columns stand."""

    number: int
    file: File
    skip: int
    width: int
    positions: dict[str, int]


class TextRows(FileRows):
    """The rows of UTF-8 text files, which may be compressed.

    Cells may stand in quotes where commas, semicolons or bars divide them; between others a quote is a letter.

    A first line is a header if columns are asked for by name, if a number stands below a word, if its cells look like
    names of id columns, or if digits stand below words alone; `header` is that of files that have none. Users and items
    are what their names say, see `positions_of`; without a header, the first two columns. A column of nothing but
    integers holds integer ids; any other holds strings, each exactly as it stands in the file. The first file with rows
    says for all whether they have headers and which columns are read.

    Raises
    ------
    InputError
        For an empty file or a header alone (where no other file has rows), fewer than two columns, a missing column,
        names that leave open which columns are users and items, a line of too many cells, a quote that is not closed,
        an empty, negative or fractional id, a word for a missing one among integers, a weight that is no finite
        non-negative number, or bytes that are no UTF-8.
    """

    def __init__(self, files: Files, reading: Reading, delimiter: str = "", header: list[str] | None = None) -> None:
        super().__init__(files, reading.where)
        if self.where:
            raise InputError(
                f"{self.source}: where applies, of text, to what names of folders say "
                f"({', '.join(self.keys) or 'nothing here'}), got {str(self.where[0])!r}"
            )
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            texts = list(threads.map(beginning, self.files))
        self._delimiter = delimiter or delimiter_of(self.files, texts)
        pairs = zip(self.files, texts, strict=True)
        samples = [first_rows(file, text, self._delimiter) for file, text in pairs]
        begin = next((at for at, (rows, _) in enumerate(samples) if rows), 0)
        first = self._checked_first(self.files[begin], samples[begin][0])
        with_header = header is None and (bool(reading.names.named) or has_header(first))
        if header is None and not with_header:
            check_nameless(self.files[begin], first)
        names = first[0] if with_header else header or [str(at + 1) for at in range(len(first[0]))]
        self.labels = labels_of(
            self.source,
            [*(name for name in names if name not in self.keys), *self.keys],
            reading.names,
            list(self.keys),
            nameless=header is None and not with_header,
        )
        self._texts: list[_Text] = []
        self._cells: dict[str, list[str]] = {label: [] for label in self.own_columns}
        for at, (file, (rows, lines)) in enumerate(zip(self.files, samples, strict=True)):
            if not rows:
                continue
            own = self._checked_names(file, rows[0] if with_header else names[: len(rows[0])], self.files[begin])
            positions = {label: own.index(label) for label in self.own_columns}
            if below := rows[with_header:]:
                self._texts.append(_Text(at, file, lines if with_header else 0, len(rows[0]), positions))
            for label, column in positions.items():
                self._cells[label] += [row[column] for row in below if len(row) > column]
        if not self._texts:
            raise InputError(f"{self.files[begin]}: expected interactions below the header, got none")
        roles = {label: role for role, label in self.labels.items()}
        self._kinds = {label: _kind(roles[label], cells) for label, cells in self._cells.items()}
        self._is_promised = True  # that all cells are of these kinds
        self._has_header = with_header
        self._with_quotes = {number for number, text in enumerate(texts) if '"' in text}

    def batches(self) -> Iterator[Batch]:
        for text in self._texts:
            yield from self.batches_of(text.number, self._parsed(text))

    def settled(self, label: str, ids: pa.Array, codes: np.ndarray) -> pa.Array:
        return settled(self.source, label, ids, codes, self._cells.get(label, ["one", "word"]))

    def _checked_first(self, file: File, rows: list[list[str]]) -> list[list[str]]:
        """The first rows of the table; InputError where there are none, or they are not divided."""
        if not rows:
            raise InputError(f"{file}: expected interactions, got an empty file")
        if len(rows[0]) < 2 and not self.keys:
            raise InputError(
                f"{file}: expected at least two columns separated by {self._delimiter!r}, got one: {rows[0][0]!r}"
            )
        return rows

    def _checked_names(self, file: File, names: list[str], first: File) -> list[str]:
        """The names of a file's columns; InputError where it has not what is read of the first."""
        for label in self.own_columns:
            if label not in names:
                found = ", ".join(map(repr, names))
                raise InputError(f"{file}: expected a column {label!r}, as in {first}, the columns are {found}")
        return names

    def _parsed(self, text: _Text) -> Iterator[pa.RecordBatch]:
        """The columns of a file that are read, of the kinds promised, or as strings; empty cells are null."""
        import pyarrow as pa
        import pyarrow.csv

        quoting = self._delimiter in QUOTING
        careful = quoting and text.number in self._with_quotes
        names = [str(at) for at in range(text.width)]
        types = {names[at]: self._kinds[label] for label, at in text.positions.items()}
        marks = [b'"'] if quoting and not careful else []
        if pa.int64() in types.values():
            marks += [b"0x", b"0X"]  # Arrow would take 0x1f for an integer, and only where it expects one
        first = 0
        try:
            newlines = careful and self._has_lines(text)
            with text.file.open() as stream:
                for batch in pyarrow.csv.open_csv(
                    _Watched(stream, marks) if marks else stream,
                    read_options=pyarrow.csv.ReadOptions(
                        # A single thread knows the row where something is wrong.
                        column_names=names,
                        skip_rows=text.skip,
                        block_size=_BLOCK_BYTES,
                        use_threads=self._is_promised,
                    ),
                    parse_options=pyarrow.csv.ParseOptions(
                        delimiter=self._delimiter, quote_char='"' if quoting else False, newlines_in_values=newlines
                    ),
                    convert_options=pyarrow.csv.ConvertOptions(
                        include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
                    ),
                ):
                    named = self._named(text, batch)
                    self._check_no_header_again(text, named, first)
                    first += len(named)
                    yield named
        except _Unforeseen as found:
            if found.mark == b'"':
                self._with_quotes.add(text.number)
            else:
                self._break_promise()
            raise Anew from None
        except OSError as error:
            raise unreadable(text.file, error) from error
        except pa.ArrowInvalid as error:
            # The samples promised integers or numbers, and further down something else may have come: read text, and
            # see what all of it is. What is wrong in another way fails once more.
            if self._is_promised:
                self._break_promise()
                raise Anew from None
            raise InputError(
                f"{text.file}: expected UTF-8 text of {text.width} cells a line ({brief(error)})"
            ) from error

    def _break_promise(self) -> None:
        import pyarrow as pa

        self._is_promised = False
        self._kinds = dict.fromkeys(self._kinds, pa.string())

    def _named(self, text: _Text, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch under the names of its columns; of numbers that came as text, what they say."""
        import pyarrow as pa

        columns = {label: batch.column(str(at)) for label, at in text.positions.items()}
        for role in ("weight", "rating"):
            label = self.labels.get(role)
            if label in columns and pa.types.is_string(columns[label].type):
                columns[label] = pa.array(map(number, columns[label].to_pylist()), pa.float64())
        return pa.RecordBatch.from_pydict(columns)

    def _check_no_header_again(self, text: _Text, batch: pa.RecordBatch, first: int) -> None:
        """Refuse files that were put behind one another together with their headers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        labels = [self.labels[role] for role in ("user", "item") if self.labels[role] in text.positions]
        columns = [batch.column(label) for label in labels]
        if not (self._has_header and len(columns) == 2 and all(pa.types.is_string(each.type) for each in columns)):
            return
        alike = [pc.equal(column, label) for column, label in zip(columns, labels, strict=True)]
        row = pc.index(pc.and_(*alike), True).as_py()
        if row >= 0:
            raise InputError(f"{text.file}: expected one header, and data row {first + row + 1} is it once more")

    def _has_lines(self, text: _Text) -> bool:
        """Whether a cell goes over several lines: to expect that costs a third of the parsing."""
        rows = _rows_in_a_cell(self._delimiter, text.width, text.positions, self._kinds)
        with text.file.open() as stream:
            line, has_lines = quoted_lines(stream, text.skip, self._delimiter, rows)
        if line is not None:
            raise InputError(
                f"{text.file}: expected quotes that close where their cell ends, the one that opens a cell in line "
                f"{line} does not (put a cell with a quote in quotes and double that, or write a .tsv, where quotes "
                "are letters)"
            )
        return has_lines


class _Unforeseen(Exception):  # noqa: N818 - no error: what a stream says of a text that must be read otherwise
    def __init__(self, mark: bytes) -> None:
        super().__init__(mark)
        self.mark = mark


class _Watched(io.RawIOBase):
    """A stream that ends with `_Unforeseen` where one of some marks, of one letter or two, stands in it."""

    def __init__(self, stream: BinaryIO, marks: list[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._marks = marks
        self._last = b""  # the letter before what is read next

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        for mark in self._marks:
            # The second letter is looked for first: where it is rare, that is quick.
            if block.find(mark[-1:]) >= 0 and (mark in block or mark == self._last + block[:1]):
                raise _Unforeseen(mark)
        self._last = block[-1:]
        return block


def _kind(role: str, cells: list[str]) -> pa.DataType:
    """The type that a sample of a column's cells promises."""
    import pyarrow as pa

    if role in ("weight", "rating"):
        return pa.float64()
    if all(map(INTEGER.fullmatch, cells)):
        return pa.int64()
    return pa.float64() if role == "timestamp" and all(map(is_number, cells)) else pa.string()


def _rows_in_a_cell(
    delimiter: str, width: int, positions: Mapping[str, int], kinds: Mapping[str, pa.DataType]
) -> re.Pattern[bytes]:
    """What a cell of several lines holds that has no closing quote of its own: the end of its line, and rows.

    Integers where the table has integer ids tell a row from other text; of rows without integers it takes many.
    """
    import pyarrow as pa

    mark = re.escape(delimiter.encode())
    integer = {at for label, at in positions.items() if pa.types.is_integer(kinds[label])}
    cells = [rb"\s*-?\d+\s*" if at in integer else rb"[^\n" + mark + rb"]*" for at in range(width)]
    least = b"+" if integer else b"{%d,}" % _ROWS_IN_A_CELL
    return re.compile(rb"(?:\n" + mark.join(cells) + rb")" + least)


def _csv(files: Files, reading: Reading) -> TextRows:
    return TextRows(files, reading, reading.separator or "")


def _tsv(files: Files, reading: Reading) -> TextRows:
    return TextRows(files, reading, reading.separator or "\t")


CSV = Format("csv", (".csv",), _csv, compressible=True, is_text=True)
TSV = Format("tsv", (".tsv",), _tsv, compressible=True, is_text=True)
