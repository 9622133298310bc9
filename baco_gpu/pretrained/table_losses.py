"""What tables lose as they are made small: how far rows are from the trained ones, and which neighbors they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from baco_gpu.columns.table_plan import aligned, named

K = 20
SAMPLE = 512  # ids whose neighbors are looked at, or users whose items
_BLOCK = 1 << 13  # rows that are floats at a time

Reader = Callable[[Tensor], Tensor]  # the rows of these ids, as floats


class TableLoss(NamedTuple):
    """What became of a table.

    Attributes
    ----------
    name : str
    ids, dim : int
    dtype : str
        Of its embeddings, before and after.
    method : str
        A name of `baco methods`; "full" for a table that is left alone.
    bytes_before, bytes_after : int
    row_error : float
        The distance of all rows from the trained ones, as a share of the length of these (Frobenius norms).
    row_error_weighted : float or None
        The same with every row as often as it is in the data; None without data.
    neighbors_kept : float
        Of the 20 nearest rows of an id, by the cosine, the share that are among the 20 nearest of the trained rows:
        the mean over a sample of ids.
    reason : str
        Why the table is left alone.
    """

    name: str
    ids: int
    dim: int
    dtype: str
    method: str
    bytes_before: int
    bytes_after: int
    row_error: float = 0.0
    row_error_weighted: float | None = None
    neighbors_kept: float = 1.0
    reason: str = ""


@dataclass(frozen=True)
class ModelReport:
    """What `compress_model` lost; `print` shows it as a table.

    Attributes
    ----------
    tables : tuple of TableLoss
    scores_of : pair of str, or None
        The tables of users and of items whose inner products are ranked.
    scores_kept : float or None
        Of the 20 items of highest inner product with a user, the share that are among the 20 of the trained tables: the
        mean over a sample of users.
    sample : int
        How many ids, or users, are looked at, at most.
    budget : int
        What these tables were allowed together, in `measure`.
    measure : {"bytes", "parameters"}
    """

    tables: tuple[TableLoss, ...]
    scores_of: tuple[str, str] | None
    scores_kept: float | None
    sample: int
    budget: int
    measure: str

    def __getitem__(self, name: str) -> TableLoss:
        """The table of this name; KeyError where there is none."""
        return named(self.tables, name)

    @property
    def bytes_before(self) -> int:
        return sum(table.bytes_before for table in self.tables)

    @property
    def bytes_after(self) -> int:
        return sum(table.bytes_after for table in self.tables)

    def summary(self) -> dict[str, Any]:
        """All of it as plain values."""
        figures = {"bytes_before": self.bytes_before, "bytes_after": self.bytes_after}
        return {**asdict(self), "tables": [table._asdict() for table in self.tables], **figures}

    def lines(self) -> list[tuple[str, ...]]:
        """The table as text, a header first."""
        weighted = any(table.row_error_weighted is not None for table in self.tables)
        header = ("table", "ids", "dim", "dtype", "method", "bytes", "row error")
        out = [(*header, *(["as seen"] if weighted else []), f"nearest {K} kept", "")]
        for table in self.tables:
            sizes = (f"{table.ids:,}", str(table.dim), table.dtype, table.method)
            shown = (f"{table.bytes_before:,} -> {table.bytes_after:,}", f"{table.row_error:.2%}")
            seen = "" if table.row_error_weighted is None else f"{table.row_error_weighted:.2%}"
            row = (table.name, *sizes, *shown, *([seen] if weighted else []), f"{table.neighbors_kept:.1%}")
            out.append((*row, table.reason))
        return out

    @property
    def verdict(self) -> str:
        """The sum of it in a line."""
        share = self.bytes_after / max(self.bytes_before, 1)
        text = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes ({share:.1%})"
        if self.scores_of is None or self.scores_kept is None:
            return text
        users, items = self.scores_of
        return f"{text}; of the {K} best of {items} for a user of {users}, {self.scores_kept:.1%} are kept"

    def __repr__(self) -> str:
        return f"ModelReport({len(self.tables)} tables: {self.verdict})"

    def __str__(self) -> str:
        lines = self.lines()
        return "\n".join([*aligned(lines, texts=(0, 3, 4, len(lines[0]) - 1)), self.verdict])


@torch.no_grad()
def row_error(before: Reader, after: Reader, count: int, weights: np.ndarray | None = None) -> float:
    """The distance of rows, every one as often as its weight, as a share of the length of what they were."""
    lost = total = 0.0
    for ids in blocks(count):
        old, new = before(ids).double(), after(ids).double()
        share = torch.ones(len(ids), dtype=torch.float64)
        if weights is not None:
            share = torch.as_tensor(weights[ids[0] : ids[-1] + 1], dtype=torch.float64)
        lost += float(share @ (old - new).square().sum(dim=1))
        total += float(share @ old.square().sum(dim=1))
    return math.sqrt(lost / total) if total else math.sqrt(lost)


def sampled(count: int, seed: int, weights: np.ndarray | None = None) -> Tensor:
    """Ids to look at, ascending; of those that are seen, where that is known."""
    ids = np.arange(count) if weights is None or not weights.any() else np.flatnonzero(weights)
    drawn = np.random.default_rng(seed).choice(ids, min(SAMPLE, len(ids)), replace=False)
    return torch.as_tensor(np.sort(drawn))


@torch.no_grad()
def neighbors_kept(before: Reader, after: Reader, count: int, sample: Tensor) -> float:
    """The mean overlap of the nearest rows of these ids by the cosine, themselves left out."""
    found = []
    for rows in (before, after):
        units = _units(rows)
        found.append(_best(units(sample), units, count, own=sample))
    return _overlap(*found)


@torch.no_grad()
def scores_kept(users: tuple[Reader, Reader], items: tuple[Reader, Reader], count: int, sample: Tensor) -> float:
    """The mean overlap of the items of highest inner product with these users, before and after."""
    found = [_best(own(sample).float(), rows, count) for own, rows in zip(users, items, strict=True)]
    return _overlap(*found)


def blocks(count: int) -> Iterator[Tensor]:
    """All ids below `count`, in parts."""
    return iter(torch.arange(count).split(_BLOCK)) if count else iter(())


def _units(rows: Reader) -> Reader:
    return lambda ids: functional.normalize(rows(ids).float(), dim=1)


def _best(queries: Tensor, rows: Reader, count: int, own: Tensor | None = None) -> Tensor:
    """The ids of the highest inner products with every query, (queries, at most K)."""
    scores, best = queries.new_empty((len(queries), 0)), torch.empty((len(queries), 0), dtype=torch.int64)
    for ids in blocks(count):
        part = queries @ rows(ids).float().T
        if own is not None:
            part = part.masked_fill(own[:, None] == ids, -torch.inf)
        merged = torch.cat((scores, part), dim=1)
        scores, places = merged.topk(min(K, merged.shape[1]), dim=1)
        best = torch.cat((best, ids.expand(len(queries), -1)), dim=1).gather(1, places)
    return best


def _overlap(before: Tensor, after: Tensor) -> float:
    if not before.numel():
        return 1.0
    return float((before[:, :, None] == after[:, None, :]).any(dim=2).double().mean())
