"""What is to become of every table, as it prints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar


class Named(Protocol):
    """What is known by a name."""

    @property
    def name(self) -> str: ...


_Named = TypeVar("_Named", bound=Named)


def named(tables: Iterable[_Named], name: str) -> _Named:
    """The one of this name; KeyError where there is none."""
    for table in tables:
        if table.name == name:
            return table
    raise KeyError(name)


class PlannedTable(NamedTuple):
    """What is to become of a table.

    Attributes
    ----------
    name : str
    ids, rows : int
        How many ids there are, and rows for them.
    bytes_before, bytes_after : int
    method : str
        A name of `baco methods`: "baco-multilevel" where co-clusters share rows, "product" for product codes, "full"
        for a table that is left alone.
    partners : dict of str to float
        The columns that it is clustered by, and the bits that each tells of it.
    error : float
        The share of the variance of looked-up rows that is left between them and the rows that the model had.
    reason : str
        Why the table is left alone, or has no clusters to share rows by.
    """

    name: str
    ids: int
    rows: int
    bytes_before: int
    bytes_after: int
    method: str
    partners: dict[str, float]
    error: float
    reason: str


@dataclass(frozen=True)
class Plan:
    """The plan for every table that `data` names; `print` shows it as a table.

    Attributes
    ----------
    tables : tuple of PlannedTable
    budget : int
        What all tables together may cost, in bytes or parameters.
    cost : int
    measure : {"bytes", "parameters"}
    """

    tables: tuple[PlannedTable, ...]
    budget: int
    cost: int
    measure: str

    def __getitem__(self, name: str) -> PlannedTable:
        """The table of this name; KeyError where there is none."""
        return named(self.tables, name)

    def __repr__(self) -> str:
        return f"Plan({len(self.tables)} tables: {self.cost:,} of {self.budget:,} {self.measure})"

    def __str__(self) -> str:
        lines = [("column", "ids", "rows", "bytes", "method", "variance left", "by, or why not")]
        for table in self.tables:
            by = ", ".join(f"{name} ({bits:.2f} bits)" for name, bits in table.partners.items())
            size = (f"{table.ids:,}", f"{table.rows:,}", f"{table.bytes_before:,} -> {table.bytes_after:,}")
            lines.append((table.name, *size, table.method, f"{table.error:.1%}", by or table.reason))
        return "\n".join([*aligned(lines, texts=(0, 4, 6)), f"{self.cost:,} of {self.budget:,} {self.measure}"])


def aligned(lines: Sequence[Sequence[str]], texts: Collection[int]) -> list[str]:
    """Lines of cells under one another: columns at these places begin together, the others, of numbers, end so."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
