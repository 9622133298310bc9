"""Conditions on columns of a table, such as `dt>=2026-01-01`: which of its rows are read."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*([^\s<>=!](?:[^<>=!]*[^\s<>=!])?)\s*(<=|>=|==|!=|=|<|>)\s*([^\s<>=!](?:.*\S)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A comparison of a column with a value, which is text until the type of the column is known."""

    column: str
    comparison: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.comparison}{self.value}"

    def expression(self, source: object, kind: pa.DataType) -> pc.Expression:
        """The condition as Arrow has it, for a column of type `kind`; InputError where that has no such values."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        try:
            value = pa.scalar(self.value).cast(kind)
        except pa.ArrowException as error:
            raise InputError(
                f"{source}: where must compare column {self.column!r} with a value of its type, {kind}, "
                f"got {str(self)!r}"
            ) from error
        return _COMPARISONS[self.comparison](pc.field(self.column), pc.scalar(value))


def conditions_of(where: str | Sequence[str] | None) -> tuple[Condition, ...]:
    """The conditions that `where` says, all of which hold of the rows that are read; InputError for what is none."""
    found = []
    for text in where if isinstance(where, (list, tuple)) else [] if where is None else [where]:
        match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InputError(
                f"where must be conditions such as dt>=2026-01-01 (with {', '.join(_COMPARISONS)}), got {text!r}"
            )
        found.append(Condition(*match.groups()))
    return tuple(found)


def check_columns(source: object, where: Sequence[Condition], header: Sequence[str]) -> None:
    """Raise InputError for a condition on a column that is not there."""
    for condition in where:
        if condition.column not in header:
            raise InputError(
                f"{source}: where must name a column, the columns are {', '.join(map(repr, header))}, "
                f"got {str(condition)!r}"
            )


def kept(source: object, where: Sequence[Condition], table: pa.Table) -> pa.Table:
    """The rows of a table without dictionaries that fulfil all conditions."""
    for condition in where:
        kind = table.schema.field(condition.column).type
        table = table.filter(condition.expression(source, kind))
    return table
