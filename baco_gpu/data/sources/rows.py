"""What every kind of source gives: the rows of a table in batches, as Arrow has them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from baco_gpu.data.sources.where import Condition

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_ROWS_AT_ONCE = 1 << 17


class Batch(NamedTuple):
    """Some rows: `first` of `source`, which is what errors name, come before them."""

    source: str
    first: int
    table: pa.Table


class Rows(ABC):
    """The rows of a table.

    Attributes
    ----------
    source : str
        What errors call the table.
    labels : dict of str to str
        The names of the columns to read, by their role: user, item and what else was asked for.
    where : sequence of Condition
        What rows must fulfil besides: those conditions that `batches` leaves to its caller, who finds their columns in
        the batches.
    """

    source: str
    labels: dict[str, str]
    where: tuple[Condition, ...] = ()

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """The rows in their order, with the columns of `labels` and `where`; nothing in them has been looked at.

        Raises
        ------
        InputError
            If something is not what it must be.
        Anew
            If what the batches before were read as turned out to be wrong: they do not count, and the next call knows.
        """

    def settled(self, label: str, ids: pa.Array, codes: np.ndarray) -> pa.Array:
        """The ids of a column, in ascending order, as int64 or as the strings that they are.

        `codes`, an integer array of shape (n,), has the position in `ids` of every row's.
        """
        return ids

    def shares(self, count: int) -> list[Rows] | None:
        """The rows in so many parts of about equal length, one after another; None where they come as a whole alone.

        No part has another one read, and parts hold the same kinds of ids.
        """
        return None

    @property
    def columns(self) -> list[str]:
        """The names of all columns that batches have."""
        return list(dict.fromkeys([*self.labels.values(), *(condition.column for condition in self.where)]))


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of batches in tables that are worth a look each, however small the batches are."""
    import pyarrow as pa

    few: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        few.append(batch)
        rows += len(batch)
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(few)
            few, rows = [], 0
    if few:
        yield pa.Table.from_batches(few)


class Anew(Exception):  # noqa: N818 - no error: a word between `Rows.batches` and who takes them
    """Batches must be read once more."""
