"""Parquet and Feather files: a file, or many whose schemas are compatible."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from baco_gpu.data.sources.dealing import cuts
from baco_gpu.data.sources.files import File, Files, in_bytes
from baco_gpu.data.sources.formats import FileRows, Format, Reading
from baco_gpu.data.sources.headers import labels_of
from baco_gpu.data.sources.raw_columns import check_types
from baco_gpu.data.sources.rows import Batch, Rows
from baco_gpu.data.sources.where import check_columns
from baco_gpu.errors import DAMAGE, InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

_AT_ONCE = 16  # files whose schemas are read: what waits is a remote file system
_BATCHES_AHEAD = 4  # of 2**17 rows


class ColumnarRows(FileRows):
    """The rows of Parquet or Feather files.

    Every file is read by its own schema, so that nothing is converted before it has been looked at. A file needs the
    columns that are read, in any order and beside any others; what they hold may differ in width (int32 and int64,
    strings and dictionaries of them) but not in kind.

    Raises
    ------
    InputError
        For a file that is not of the format or damaged, fewer than two columns or a missing one, names that leave open
        which columns are users and items, and columns of two kinds in two files; the message names the file.
    """

    def __init__(self, files: Files, reading: Reading, form: str, file_format: ds.FileFormat) -> None:
        super().__init__(files, reading.where)
        self._form = form
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self._fragments = list(threads.map(lambda file: self._fragment(file, file_format), self.files))
        schema = self._fragments[0].physical_schema
        header = [*(name for name in schema.names if name not in self.keys), *self.keys]
        # A schema says which of its columns pandas has for an index.
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        aside = [*self.keys, *(name for name in index if isinstance(name, str))]
        self.labels = labels_of(self.source, header, reading.names, aside)
        check_columns(self.source, self.where, header)
        self._check_schemas()
        self._pieces = [_Piece(number, 0, fragment) for number, fragment in enumerate(self._fragments)]

    def batches(self) -> Iterator[Batch]:
        for number, first, fragment in self._pieces:
            with _reading(self.files[number], self._form):
                batches = fragment.to_batches(
                    schema=self._fragments[number].physical_schema,
                    columns=self.own_columns,
                    batch_readahead=_BATCHES_AHEAD,
                    fragment_readahead=1,
                )
                yield from self.batches_of(number, batches, first)

    def __str__(self) -> str:
        """Which rows these are."""
        return "; ".join(f"{self.files[number]} from row {first}" for number, first, _ in self._pieces)

    def shares(self, count: int) -> list[Rows]:
        """The rows in so many parts: row groups of Parquet are not divided, nor are files of Feather."""
        pieces: list[_Piece] = []
        lengths: list[int] = []
        for number, (file, fragment) in enumerate(zip(self.files, self._fragments, strict=True)):
            first = 0
            with _reading(file, self._form):
                for piece, length in _divided(fragment):
                    pieces.append(_Piece(number, first, piece))
                    lengths.append(length)
                    first += length
        shares: list[Rows] = []
        for number, (begin, end) in enumerate(pairwise(cuts(np.array(lengths), count)), start=1):
            share = copy(self)
            share.source = f"{self.source} (part {number} of {count})"
            share._pieces = pieces[begin:end]
            shares.append(share)
        return shares

    def _fragment(self, file: File, file_format: ds.FileFormat) -> ds.Fragment:
        with _reading(file, self._form):
            fragment = file_format.make_fragment(*_opened(file))
            _ = fragment.physical_schema  # read here, and kept
        return fragment

    def _check_schemas(self) -> None:
        """Every file has the columns that are read, of types that can be, and of one kind."""
        first: dict[str, str] = {}
        for file, fragment in zip(self.files, self._fragments, strict=True):
            schema = fragment.physical_schema
            for label in self.own_columns:
                if schema.names.count(label) != 1:
                    found = ", ".join(map(repr, schema.names))
                    raise InputError(
                        f"{file}: expected a column {label!r}, as in {self.files[0]}, the columns are {found}"
                    )
                kind = _kind(schema.field(label).type)
                if first.setdefault(label, kind) != kind:
                    raise InputError(
                        f"{file}: column {label!r} must hold {first[label]}, as in {self.files[0]}, got {kind}"
                    )
            check_types(file, {role: label for role, label in self.labels.items() if label not in self.keys}, schema)


class _Piece(NamedTuple):
    """Rows of file `number`, after `first` others of it."""

    number: int
    first: int
    fragment: ds.Fragment


def _divided(fragment: ds.Fragment) -> Iterator[tuple[ds.Fragment, int]]:
    """The parts of a file that can be read for themselves, and how many rows each has."""
    if not hasattr(fragment, "row_groups"):
        yield fragment, fragment.count_rows()
        return
    for group in fragment.row_groups:
        yield fragment.subset(row_group_ids=[group.id]), group.num_rows


def _opened(file: File) -> tuple[Any, ...]:
    """What a dataset makes a fragment of: a path, or a file of a name that is no UTF-8, which it takes for a path."""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        return (file.filesystem.open_input_file(in_bytes(file.path)),)
    return file.path, file.filesystem


@contextmanager
def _reading(file: File, form: str) -> Iterator[None]:
    """InputError for whatever a damaged file makes Arrow raise."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{file}: expected a {form} file, but it cannot be read ({brief(error)})") from error


def _kind(kind: pa.DataType) -> str:
    """What columns have in common that may stand below one another."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "strings"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    return "dates" if pa.types.is_temporal(kind) else str(kind)


def _parquet(files: Files, reading: Reading) -> Rows:
    import pyarrow.dataset as ds

    return ColumnarRows(files, reading, "Parquet", ds.ParquetFileFormat())


def _feather(files: Files, reading: Reading) -> Rows:
    import pyarrow.dataset as ds

    return ColumnarRows(files, reading, "Feather", ds.IpcFileFormat())


PARQUET = Format("parquet", (".parquet", ".pq"), _parquet)
FEATHER = Format("feather", (".feather", ".arrow"), _feather)
