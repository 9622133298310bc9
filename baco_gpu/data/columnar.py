"""Columns of raw ids and weights from Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from baco_gpu.data.tables import ColumnNames, RawColumns, brief, check_ids, checked_weights, positions_of
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


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
        file = pyarrow.parquet.ParquetFile(path)
        labels = labels_of(path, file.schema_arrow.names, names)
        table = file.read(labels)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file, but it cannot be read ({brief(error)})") from error
    return raw_columns(path, table, labels)


def labels_of(source: object, header: list[str], names: ColumnNames) -> list[str]:
    """Names of the user, the item and, if there are weights, the weight column of a table with this header."""
    if len(header) < 2:
        raise InputError(f"{source}: expected at least two columns, got {len(header)}")
    return [header[at] for at in positions_of(source, header, names)]


def raw_columns(source: object, table: pa.Table, labels: list[str]) -> RawColumns:
    """The columns `labels` of an Arrow table, checked; InputError names `source`."""
    import pyarrow as pa

    if table.num_rows == 0:
        raise InputError(f"{source}: expected interactions, got a table without rows")
    ids = [_ids(source, label, table.column(label)) for label in labels[:2]]
    weights = None
    if len(labels) == 3:
        column = table.column(labels[2])
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(f"{source}: column {labels[2]!r} must hold numbers, got {column.type}")
        weights = checked_weights(source, labels[2], column.to_numpy())
    return RawColumns(ids[0], ids[1], weights)


def _ids(source: object, label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Raw ids as int64 or strings."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif pa.types.is_integer(kind):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise InputError(f"{source}: column {label!r} must fit in 64-bit signed integers ({error})") from error
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{source}: column {label!r} must hold integer or string ids, got {kind}")
    check_ids(source, label, column)
    return column
