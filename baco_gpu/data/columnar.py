"""Columns of raw ids, weights, ratings and timestamps from Parquet and Feather files and from data frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco_gpu.data.cells import decoded
from baco_gpu.data.headers import ColumnNames, positions_of
from baco_gpu.data.raw_columns import RawColumns, brief, raw_columns
from baco_gpu.errors import DAMAGE, InputError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, names: ColumnNames) -> RawColumns:
    """Read some columns of a Parquet file, or of a folder of them: ids are integers, strings or dictionaries of them.

    Folders are read as Spark writes them: names that begin with a dot or an underscore do not count, and what those of
    its folders say, such as `date=2026-01-01`, is a column.

    Raises
    ------
    InputError
        For a file that is not Parquet or damaged, without rows, with fewer than two columns or without a named one,
        names that leave open which columns are users and items, ids of another type, missing values, or weights that
        are not finite and non-negative.
    """
    import pyarrow as pa
    import pyarrow.parquet

    with _reading(path, "Parquet"):
        if path.is_dir():
            parts = pyarrow.parquet.ParquetDataset(path)
            said = parts.partitioning.schema.names if parts.partitioning is not None else []
            labels = _labels(path, parts.schema, names, said)
            table = parts.read(_distinct(labels))
        else:
            file = pyarrow.parquet.ParquetFile(pa.OSFile(os.fsencode(path)))  # Arrow takes a string for UTF-8
            labels = _labels(path, file.schema_arrow, names)
            table = file.read(_distinct(labels))
    return _checked(path, table, labels)


def read_feather(path: Path, names: ColumnNames) -> RawColumns:
    """Read some columns of a Feather file (version 2, which is Arrow's file format); as `read_parquet`."""
    import pyarrow as pa

    with _reading(path, "Feather"), pa.OSFile(os.fsencode(path)) as stream:
        schema = pa.ipc.open_file(stream).schema
        labels = _labels(path, schema, names)
        fields = [schema.names.index(label) for label in _distinct(labels)]
        table = pa.ipc.open_file(stream, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all()
    return _checked(path, table, labels)


@contextmanager
def _reading(path: Path, form: str) -> Iterator[None]:
    """InputError for whatever a damaged file makes Arrow raise."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: expected a {form} file, but it cannot be read ({brief(error)})") from error


def is_frame(source: Any) -> bool:
    """Whether `source` is a data frame: of pandas, polars, pyarrow, or any library that hands out Arrow's C stream."""
    if _library(source) == "polars" and hasattr(source, "collect_schema"):
        return True
    return (hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")) and hasattr(source, "columns")


def read_frame(frame: Any, names: ColumnNames) -> RawColumns:
    """Take some columns of a data frame, without a copy where its library holds them as Arrow does.

    Of pandas, the named levels of the index are columns, too, for those who ask for them or where their names say user
    or item. Lazy frames of polars are collected, the columns that are read alone.
    """
    import pyarrow as pa
    import pyarrow.interchange

    source = f"{_library(frame)} {type(frame).__name__}"
    try:
        if _library(frame) == "pandas":
            return _read_pandas(source, frame, names)
        if _library(frame) == "polars":
            header = frame.collect_schema().names()
            labels = _labels(source, header, names)
            chosen = frame.select(_distinct(labels))
            return _checked(source, pa.table(chosen.collect() if hasattr(chosen, "collect") else chosen), labels)
        stream = hasattr(frame, "__arrow_c_stream__")
        table = pa.table(frame) if stream else pyarrow.interchange.from_dataframe(frame)
    except InputError:
        raise
    except Exception as error:  # each library has its own, and those of a lazy frame come from anywhere in its plan
        raise InputError(f"{source}: expected columns that Arrow can hold, but {brief(error)}") from error
    return _checked(source, table, _labels(source, table.schema, names))


def _read_pandas(source: str, frame: Any, names: ColumnNames) -> RawColumns:
    import pyarrow as pa

    columns, levels = ([str(name) for name in axis] for axis in (frame.columns, frame.index.names))
    named = [name for name, level in zip(levels, frame.index.names, strict=True) if level is not None]
    # Columns that have a name together are what that names, such as the items of a pivot: each for itself is none.
    aside = named + (columns if any(name is not None for name in frame.columns.names) else [])
    labels = _labels(source, columns + named, names, aside)
    values = {
        label: frame.iloc[:, columns.index(label)]
        if label in columns
        else frame.index.get_level_values(levels.index(label))
        for label in _distinct(labels)
    }
    table = pa.table({label: pa.array(column, from_pandas=True) for label, column in values.items()})
    return _checked(source, table, labels)


def _library(frame: Any) -> str:
    """The library that a frame is of, or that it inherits from."""
    libraries = [kind.__module__.partition(".")[0] for kind in type(frame).__mro__]
    return next((library for library in libraries if library in ("pandas", "polars")), libraries[0])


def _labels(
    source: object, header: list[str] | pa.Schema, names: ColumnNames, aside: Collection[str] = ()
) -> dict[str, str]:
    """The names of the columns of a table by their role; a schema says which of them pandas has for an index."""
    if not isinstance(header, list):
        index = (header.pandas_metadata or {}).get("index_columns", [])
        header, aside = header.names, [*aside, *(name for name in index if isinstance(name, str))]
    if len(header) < 2:
        raise InputError(f"{source}: expected at least two columns, got {len(header)}")
    return {role: header[at] for role, at in positions_of(source, header, names, aside=aside).items()}


def _distinct(labels: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(labels.values()))


def _checked(source: object, table: pa.Table, labels: dict[str, str]) -> RawColumns:
    import pyarrow as pa

    if table.num_rows == 0:
        raise InputError(f"{source}: expected interactions, got a table without rows")
    columns = {role: _whole(source, label, table.column(label)) for role, label in labels.items()}
    for role, column in columns.items():
        kind = column.type
        if role in ("user", "item"):
            columns[role] = _ids(source, labels[role], column)
        elif role != "timestamp" and pa.types.is_decimal(kind):
            columns[role] = column.cast(pa.float64())
        elif role != "timestamp" and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(f"{source}: column {labels[role]!r} must hold numbers, got {kind}")
    return raw_columns(source, labels, columns)


def _whole(source: object, label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without dictionaries, once nothing in it points outside of it.

    What Arrow computes with trusts offsets, indices of dictionaries and text in UTF-8, and the process ends, or other
    memory is read, where they are wrong: a file is read without a look at them.
    """
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        raise InputError(f"{source}: column {label!r} is damaged ({brief(error)})") from error
    return decoded(column)


def _ids(source: object, label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Raw ids as int64 or strings; decimals are ids where they are whole."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if not (pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"{source}: column {label!r} must hold integer or string ids, got {kind}")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        if pa.types.is_decimal(kind):
            raise InputError(
                f"{source}: column {label!r} must hold integer or string ids, got {kind} ({brief(error)})"
            ) from error
        raise InputError(f"{source}: column {label!r} must fit in 64-bit signed integers ({error})") from error
