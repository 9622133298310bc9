"""Ids that are hardly meant: words that programs write for a missing one, and names that blanks alone tell apart."""

from __future__ import annotations

import warnings
from bisect import bisect_left

from baco_gpu.data.vocabulary import Vocabulary

# Hardly anybody's name.
_NOBODY = (
    *("nan", "NaN", "NAN", "null", "NULL", "Null", "None", "none", "N/A", "n/a", "#N/A", "<NA>", "NaT", "undefined"),
    *(r"\N", "(null)", "<null>", "#REF!", "#VALUE!"),
)


def warn_of_strangers(label: str, ids: Vocabulary) -> None:
    """Warn of strings that stand for a missing id, and of those that blanks alone tell apart."""
    import pyarrow.compute as pc

    if ids.is_integer or not len(ids):
        return
    strings = ids.strings()
    for word in _NOBODY:
        place = bisect_left(range(len(strings)), word, key=lambda at: str(strings[at]))
        if place < len(strings) and str(strings[place]) == word:
            warnings.warn(f"column {label!r} has an id {word!r}, as programs write a missing one", stacklevel=4)
    # In their order those that begin with a blank come first.
    if str(strings[0])[:1] <= " " or pc.any(pc.ends_with(strings, " ")).as_py():
        trimmed = pc.utf8_trim_whitespace(strings)
        counts = pc.value_counts(trimmed)
        double = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(double):
            alike = strings.filter(pc.equal(trimmed, double[0])).to_pylist()
            warnings.warn(
                f"column {label!r} has ids that blanks alone tell apart: {alike[0]!r}, {alike[1]!r}", stacklevel=4
            )
