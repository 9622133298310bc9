"""What must hold of the cells of a column: ids, numbers, timestamps."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa

_IN_A_SECOND = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
_SECONDS_OF_A_DAY = 86400


class Place(NamedTuple):
    """Where cells stand, as errors say it: in a column of a source, after `first` of its rows, or of the kept ones."""

    source: object
    label: str
    first: int = 0
    is_kept: bool = False

    def __str__(self) -> str:
        return f"{self.source}: column {self.label!r}"

    def row(self, at: int) -> str:
        """The row of the cell at position `at`."""
        number = self.first + at + 1
        return f"row {number} of those that where keeps" if self.is_kept else f"data row {number}"


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


def checked_ids(place: Place, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionaries as int64 or strings; decimals are ids where they are whole.

    Raises
    ------
    InputError
        If it is of another type, an id is missing, is beyond 64 bits with a sign or is a negative integer: these mark
        missing ids more often than they name anything.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        raise InputError(f"{place} must have an id in every row, {place.row(_first(column.is_null()))} has none")
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if not (pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"{place} must hold integer or string ids, got {kind}")
    try:
        column = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        if pa.types.is_decimal(kind):
            raise InputError(f"{place} must hold integer or string ids, got {kind} ({brief(error)})") from error
        raise InputError(f"{place} must fit in 64-bit signed integers ({brief(error)})") from error
    if len(column) and pc.min(column).as_py() < 0:
        at = _first(pc.less(column, 0))
        raise InputError(f"{place} must hold non-negative integer or string ids, {place.row(at)} has {column[at]}")
    return column


def checked_numbers(place: Place, column: pa.ChunkedArray, minimum: float | None) -> np.ndarray:
    """Return a column of numbers as float64; InputError unless all are finite.

    With a `minimum` of 0, also if one is negative.
    """
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        values = column.cast(pa.float64()).to_numpy()
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = np.ascontiguousarray(column.to_numpy(), dtype=np.float64)
    else:
        raise InputError(f"{place} must hold numbers, got {column.type}")
    valid = np.isfinite(values)
    if minimum is not None:
        valid &= values >= minimum
    if not valid.all():
        at = int((~valid).argmax())
        got = "no number" if np.isnan(values[at]) else f"{values[at]:g}"
        expected = "finite numbers" if minimum is None else "finite non-negative numbers"
        raise InputError(f"{place} must hold {expected}, {place.row(at)} has {got}")
    return values


class Timestamps:
    """Reads timestamps that come in pieces, all in one form: numbers, dates, or dates with an offset from UTC.

    Attributes
    ----------
    are_days : bool
        Whether all numbers so far are days such as 20261130.
    """

    def __init__(self) -> None:
        self._first: _Form | None = None  # of the first piece
        self._number: tuple[Place, float] | None = None  # the first one, and where it stands
        self.are_days = True

    @property
    def form(self) -> str | None:
        """The form of the pieces so far; None before the first."""
        return None if self._first is None else self._first.name

    def checked(self, place: Place, column: pa.ChunkedArray) -> np.ndarray:
        """Return a piece without dictionaries as int64 or float64; dates count in seconds since 1970.

        Dates in text have the form of ISO 8601. A date is the same number in every unit that can hold it.

        Raises
        ------
        InputError
            If one is missing, is neither a number that fits into 64 bits with a sign nor a date, or is of another form
            than the others.
        """
        import pyarrow as pa

        expected = f"{place} must hold numbers or dates such as 2026-11-24T09:30:00"
        cells = column
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = _from_text(expected, place, column)
        kind = column.type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64()) if kind.scale else _whole(expected, column)
        elif not (_is_date(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(f"{expected}, got {kind}")
        if column.null_count:
            raise InputError(f"{expected}, {place.row(_first(column.is_null()))} has none")
        if len(column):
            self._check_form(expected, _Form(_form_of(kind), cells[0], place, 0))
        if pa.types.is_timestamp(kind):
            return _seconds(column.cast(pa.int64()).to_numpy(), kind.unit)
        if _is_date(kind):
            return column.cast(pa.date32()).cast(pa.int32()).to_numpy() * float(_SECONDS_OF_A_DAY)
        values = column.to_numpy()
        if values.dtype.kind == "f":
            values = values.astype(np.float64)  # half precision knows no large numbers
        largest = np.iinfo(np.int64).max
        valid = np.abs(values) < float(largest) if values.dtype.kind == "f" else values <= largest
        if not valid.all():
            at = int((~valid).argmax())
            raise InputError(f"{expected}, {place.row(at)} has {values[at]}")
        if len(values):
            self._number = self._number or (place, values[0])
            self.are_days = self.are_days and values.dtype.kind in "iu" and are_days(values)
        return np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)

    def warn_of_days(self) -> None:
        """Once all pieces are read: warn where all of them hold nothing but days such as 20261130."""
        if self._number is not None and self.are_days:
            place, number = self._number
            warnings.warn(
                f"{place} holds numbers such as {number}, which are read as they are and not as days", stacklevel=5
            )

    def _check_form(self, expected: str, form: _Form) -> None:
        self._first = self._first or form
        if form.name != self._first.name:
            raise InputError(_of_two_forms(expected, self._first, form))


class _Form(NamedTuple):
    """A form of timestamps, a cell that has it, and where that stands."""

    name: str
    cell: pa.Scalar
    place: Place
    at: int

    def __str__(self) -> str:
        import pyarrow as pa

        return f"{self.cell.cast(pa.string()).as_py()!r} ({self.name})"


def _of_two_forms(expected: str, one: _Form, other: _Form) -> str:
    elsewhere = f"{one.place.source}, " if one.place.source != other.place.source else ""
    first, then = one.place.row(one.at), other.place.row(other.at)
    return f"{expected}, all in one form: {elsewhere}{first} has {one}, {then} {other}"


def are_days(values: np.ndarray) -> bool:
    """Whether all numbers are days of 1900 to 2099 when read by their digits, as 20261130 is."""
    if not len(values) or not (values.min() >= 19000101 and values.max() <= 20991231):
        return False
    month, day = values // 100 % 100, values % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _seconds(values: np.ndarray, unit: str) -> np.ndarray:
    """Times since 1970 in seconds; of nanoseconds those that are whole microseconds are divided as such."""
    if unit != "ns":
        return values / _IN_A_SECOND[unit]
    microseconds, rest = np.divmod(values, 1000)
    return np.where(rest == 0, microseconds / _IN_A_SECOND["us"], values / _IN_A_SECOND["ns"])


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


def _form_of(kind: pa.DataType) -> str:
    import pyarrow as pa

    if not _is_date(kind):
        return "a number"
    return "a date with an offset" if pa.types.is_timestamp(kind) and kind.tz else "a date"


def _from_text(expected: str, place: Place, column: pa.ChunkedArray) -> pa.ChunkedArray:
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
        at = forms.index(None)
        raise InputError(f"{expected}, {place.row(at)} has {cells[at]!r}")
    at = next(at for at, form in enumerate(forms) if form != forms[0])
    raise InputError(_of_two_forms(expected, *(_Form(str(forms[row]), column[row], place, row) for row in (0, at))))


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


def _first(mask: pa.ChunkedArray) -> int:
    """The position of the first True."""
    return int(mask.to_numpy().argmax())
