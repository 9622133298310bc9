"""Ids in text: integers where the whole column is, strings otherwise, whatever comes where in it."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.sources.cells import Place
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

INTEGER = re.compile(r"\s*-?\d{1,19}\s*", re.ASCII)
_WHOLE = r"^\s*-?[0-9]+\s*$"
_MISSING = {
    *("null", "nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "none", "nil", "nat", r"\n"),
    *("-", "--", ".", "?", "(null)", "[null]", "<null>", "(none)", "<none>", "(blank)", "undefined", "missing"),
    *("#null!", "#ref!", "#value!", "#div/0!", "#num!", "#name?"),
}
_FEW = 10  # rows of a column before a single word among them is strange


def settled(source: object, label: str, ids: pa.Array, codes: np.ndarray, sample: list[str]) -> pa.Array:
    """Return the ids of a column as int64, or as strings as they stand.

    They are integers where every cell is one, and they fit into 64 bits. They are strings where a cell is a word, or
    none is a number; of a single word among integers, such as that of a sum below them, there is a warning. What is
    left is refused, because an id would become two: 1 and 1.0, or integers and `NULL`.

    Parameters
    ----------
    source, label
        What an error names.
    ids : Arrow array of k distinct strings
    codes : integer array of shape (n,)
        The position in `ids` of every row's.
    sample : list of str
        A part of the cells.

    Raises
    ------
    InputError
        If all cells are numbers and one has a fraction or an exponent, if all are numbers and words for a missing one,
        or if an integer is negative.
    """
    import pyarrow.compute as pc

    if len(set(filter(_is_word, sample))) > 1:
        return ids
    whole = pc.match_substring_regex(ids, _WHOLE)
    others = ids.filter(pc.invert(whole)).to_pylist()
    if not others:
        return _integers(source, label, ids, codes)
    words = list(filter(_is_word, others))
    if len(words) == len(others) == 1 and len(codes) > _FEW:
        row = int((~whole.to_numpy(zero_copy_only=False))[codes].argmax())
        warnings.warn(
            f"{source}: the ids of column {label!r} are strings, as one is no integer: {words[0]!r} in "
            f"{Place(source, label).row(row)}",
            stacklevel=5,
        )
    if words:
        return ids
    fraction = next((cell for cell in others if is_number(cell)), None)
    if fraction is not None:
        raise InputError(f"{Place(source, label)} must hold integer or string ids, got {fraction}")
    if len(others) < len(ids):
        row = int((~whole.to_numpy(zero_copy_only=False))[codes].argmax())
        raise InputError(
            f"{Place(source, label)} must have an id in every row, {Place(source, label).row(row)} has "
            f"{ids[codes[row]].as_py()!r} among integers"
        )
    return ids


def _integers(source: object, label: str, ids: pa.Array, codes: np.ndarray) -> pa.Array:
    """Whole numbers as int64; as the strings that they are where one does not fit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        integers = pc.utf8_trim_whitespace(ids).cast(pa.int64())
    except pa.ArrowInvalid:
        return ids
    negative = integers.to_numpy() < 0
    if negative.any():
        row = int(negative[codes].argmax())
        raise InputError(
            f"{Place(source, label)} must hold non-negative integer or string ids, {Place(source, label).row(row)} "
            f"has {integers[codes[row]]}"
        )
    return integers


def is_number(cell: str) -> bool:
    """Whether a cell is a number, or infinite; not for words that stand for none."""
    if not cell.isascii() or "_" in cell or _is_missing(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def number(cell: str | None) -> float:
    """A cell as a float; NaN for what is none."""
    return float(cell) if cell and is_number(cell) else float("nan")


def _is_word(cell: str) -> bool:
    return bool(cell) and not is_number(cell) and not _is_missing(cell)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING
