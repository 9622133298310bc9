"""What must hold of the cells of a column: ids, numbers, timestamps."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.text_ids import is_number
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_IN_A_SECOND = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
_SECONDS_OF_A_DAY = 86400


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without dictionaries, runs, views of strings and short decimals: what they stand for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_decimal(column.type) and column.type.bit_width < 128:  # of which Arrow casts few to integers
        column = column.cast(pa.decimal128(38, column.type.scale))
    if pa.types.is_dictionary(column.type):
        kind = column.type.value_type
        kind = pa.large_string() if pa.types.is_string_view(kind) else kind
        chunks = [
            pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(kind)).dictionary_decode()
            for chunk in column.chunks
        ]
        return pa.chunked_array(chunks, kind)
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def check_ids(source: object, label: str, column: pa.ChunkedArray) -> None:
    """Raise InputError where an id is missing, or is a negative integer: these mark missing ids more often than they
    name anything.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{source}: column {label!r} must have an id in every row, data row {row} has none")
    if not pa.types.is_integer(column.type) or not len(column) or pc.min(column).as_py() >= 0:
        return
    row = int(pc.index(pc.less(column, 0), True).as_py())
    raise InputError(
        f"{source}: column {label!r} must hold non-negative integer or string ids, data row {row + 1} has {column[row]}"
    )


def checked_numbers(source: object, label: str, column: pa.ChunkedArray, minimum: float | None) -> np.ndarray:
    """Return a column of numbers, or of strings that may be numbers, as float64; InputError unless all are finite.

    With a `minimum` of 0, also if one is negative.
    """
    import pyarrow as pa

    if pa.types.is_string(column.type):
        values = np.array([_number(cell) for cell in column.to_pylist()])
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = np.ascontiguousarray(column.to_numpy(), dtype=np.float64)
    else:
        raise InputError(f"{source}: column {label!r} must hold numbers, got {column.type}")
    valid = np.isfinite(values)
    if minimum is not None:
        valid &= values >= minimum
    if not valid.all():
        row = int((~valid).argmax())
        got = "no number" if np.isnan(values[row]) else f"{values[row]:g}"
        expected = "finite numbers" if minimum is None else "finite non-negative numbers"
        raise InputError(f"{source}: column {label!r} must hold {expected}, data row {row + 1} has {got}")
    return values


def checked_timestamps(source: object, label: str, column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers, dates or strings of either as int64 or float64; dates count in seconds since 1970.

    Dates in text have the form of ISO 8601, all of them with an offset from UTC (or a Z) or none of them.

    Raises
    ------
    InputError
        If one is missing, is neither a number that fits into 64 bits with a sign nor a date, or is of another form than
        the others.
    """
    import pyarrow as pa

    expected = f"{source}: column {label!r} must hold numbers or dates such as 2026-11-24T09:30:00"
    column = decoded(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _from_text(expected, column)
    kind = column.type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64()) if kind.scale else _whole(expected, column)
    elif not (_is_date(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"{expected}, got {kind}")
    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{expected}, data row {row} has none")
    if pa.types.is_timestamp(kind):
        return column.cast(pa.int64()).to_numpy() / _IN_A_SECOND[kind.unit]
    if _is_date(kind):
        return column.cast(pa.date32()).cast(pa.int32()).to_numpy() * float(_SECONDS_OF_A_DAY)
    values = column.to_numpy()
    values = values.astype(np.float64) if values.dtype.kind == "f" else values  # half precision knows no large numbers
    largest = np.iinfo(np.int64).max
    valid = np.abs(values) < float(largest) if values.dtype.kind == "f" else values <= largest
    if not valid.all():
        row = int((~valid).argmax())
        raise InputError(f"{expected}, data row {row + 1} has {values[row]}")
    if values.dtype.kind in "iu" and are_days(values):
        warnings.warn(
            f"{source}: column {label!r} holds numbers such as {values[0]}, which are read as they are and not as days",
            stacklevel=5,
        )
    return np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def are_days(values: np.ndarray) -> bool:
    """Whether all numbers are days of 1900 to 2099 when read by their digits, as 20261130 is."""
    if not len(values) or not (values.min() >= 19000101 and values.max() <= 20991231):
        return False
    month, day = values // 100 % 100, values % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _number(cell: str | None) -> float:
    """A cell as a float; NaN for what is none."""
    return float(cell) if cell and is_number(cell) else float("nan")


def _whole(expected: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals without a fraction as int64."""
    import pyarrow as pa

    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{expected}, got {column.type} beyond 64 bits") from error


def _is_date(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _from_text(expected: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings as what all of them are: integers, numbers, dates, or dates with an offset from UTC."""
    import pyarrow as pa

    for kinds in _forms().values():
        for kind in kinds:
            try:
                return column.cast(kind)
            except pa.ArrowInvalid:
                continue
    cells = column.to_pylist()
    forms = [_form(cell) for cell in cells]
    if None in forms:
        row = forms.index(None)
        raise InputError(f"{expected}, data row {row + 1} has {cells[row]!r}")
    row = next(row for row, form in enumerate(forms) if form != forms[0])
    raise InputError(
        f"{expected}, all in one form: data row 1 has {cells[0]!r} ({forms[0]}), data row {row + 1} {cells[row]!r} "
        f"({forms[row]})"
    )


def _forms() -> dict[str, tuple[pa.DataType, ...]]:
    import pyarrow as pa

    return {
        "a number": (pa.int64(), pa.float64()),
        "a date": (pa.timestamp("us"), pa.timestamp("ns")),
        "a date with an offset": (pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC")),
    }


def _form(cell: str | None) -> str | None:
    """What a cell is a text of; None for what is neither a finite number nor a date."""
    import pyarrow as pa

    for form, kinds in _forms().items():
        for kind in kinds:
            try:
                value = pa.scalar(cell or "").cast(kind)
            except pa.ArrowInvalid:
                continue
            return None if pa.types.is_floating(kind) and not np.isfinite(value.as_py()) else form
    return None
