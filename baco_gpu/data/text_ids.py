"""Ids in text: integers where the whole column is, strings otherwise, whatever comes where in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

INTEGER = re.compile(r"\s*-?\d{1,19}\s*", re.ASCII)
_WHOLE = r"^\s*-?[0-9]+\s*$"
_MISSING = {"null", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "none", "nil", "nat", r"\n", "-", "?"}


def settled(path: object, label: str, column: pa.ChunkedArray, sample: list[str]) -> pa.ChunkedArray:
    """Return a column of ids as int64, or as strings as it stands; `sample` is a part of its cells.

    It holds integers where every cell is one, and they fit into 64 bits. It holds strings where a cell is a word, or
    none is a number. What is left is refused, because an id would become two: 1 and 1.0, or integers and `NULL`.

    Raises
    ------
    InputError
        If all cells are numbers and one has a fraction or an exponent, or if all are numbers and words for a missing
        one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(column.type) or any(map(_is_word, sample)):
        return column
    distinct = column.unique().drop_null()
    whole = pc.match_substring_regex(distinct, _WHOLE)
    others = distinct.filter(pc.invert(whole)).to_pylist()
    if not others:
        try:
            return pc.utf8_trim_whitespace(column).cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    if any(map(_is_word, others)):
        return column
    fraction = next((cell for cell in others if is_number(cell)), None)
    if fraction is not None:
        raise InputError(f"{path}: column {label!r} must hold integer or string ids, got {fraction}")
    if len(others) < len(distinct):
        row = pc.index(column, others[0]).as_py() + 1
        raise InputError(
            f"{path}: column {label!r} must have an id in every row, data row {row} has {others[0]!r} among integers"
        )
    return column


def is_number(cell: str) -> bool:
    """Whether a cell is a number, or infinite; not for words that stand for none."""
    if not cell.isascii() or "_" in cell or _is_missing(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_word(cell: str) -> bool:
    return bool(cell) and not is_number(cell) and not _is_missing(cell)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING
