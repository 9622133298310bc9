"""Columns of raw ids, weights, ratings and timestamps from Parquet and Feather files and from data frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco_gpu.data.tables import ColumnNames, RawColumns, brief, positions_of, raw_columns
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, names: ColumnNames) -> RawColumns:
    """Read some columns of a Parquet file: ids are integers, strings or dictionaries of them.

    Raises
    ------
    InputError
        For a file that is not Parquet or damaged, without rows, with fewer than two columns or without a named one, ids
        of another type, missing values, or weights that are not finite and non-negative.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        labels = _labels(path, file.schema_arrow.names, names)
        table = file.read(_distinct(labels))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file, but it cannot be read ({brief(error)})") from error
    return _checked(path, table, labels)


def read_feather(path: Path, names: ColumnNames) -> RawColumns:
    """Read some columns of a Feather file (version 2, which is Arrow's file format); as `read_parquet`."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as stream:
            header = pa.ipc.open_file(stream).schema.names
            labels = _labels(path, header, names)
            fields = [header.index(label) for label in _distinct(labels)]
            table = pa.ipc.open_file(stream, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Feather file, but it cannot be read ({brief(error)})") from error
    return _checked(path, table, labels)


def is_frame(source: Any) -> bool:
    """Whether `source` is a data frame: of pandas, polars, pyarrow, or any library that hands out Arrow's C stream."""
    return (hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")) and hasattr(source, "columns")


def read_frame(frame: Any, names: ColumnNames) -> RawColumns:
    """Take some columns of a data frame, without a copy where its library holds them as Arrow does."""
    import pyarrow as pa
    import pyarrow.interchange

    source = f"{type(frame).__module__.partition('.')[0]} {type(frame).__name__}"
    try:
        stream = hasattr(frame, "__arrow_c_stream__")
        table = pa.table(frame) if stream else pyarrow.interchange.from_dataframe(frame)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{source}: expected columns that Arrow can hold, but {brief(error)}") from error
    return _checked(source, table, _labels(source, table.column_names, names))


def _labels(source: object, header: list[str], names: ColumnNames) -> dict[str, str]:
    """The names of the columns of a table by their role."""
    if len(header) < 2:
        raise InputError(f"{source}: expected at least two columns, got {len(header)}")
    return {role: header[at] for role, at in positions_of(source, header, names).items()}


def _distinct(labels: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(labels.values()))


def _checked(source: object, table: pa.Table, labels: dict[str, str]) -> RawColumns:
    import pyarrow as pa

    if table.num_rows == 0:
        raise InputError(f"{source}: expected interactions, got a table without rows")
    try:
        columns = {role: table.column(label) for role, label in labels.items()}
    except KeyError as error:  # Arrow says so of a name that two columns have
        raise InputError(f"{source}: expected columns of different names ({brief(error)})") from error
    for role, column in columns.items():
        kind = column.type
        if role in ("user", "item"):
            columns[role] = _ids(source, labels[role], column)
        elif role != "timestamp" and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(f"{source}: column {labels[role]!r} must hold numbers, got {kind}")
    return raw_columns(source, labels, columns)


def _ids(source: object, label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Raw ids as int64 or strings."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if not pa.types.is_integer(kind):
        raise InputError(f"{source}: column {label!r} must hold integer or string ids, got {kind}")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{source}: column {label!r} must fit in 64-bit signed integers ({error})") from error
