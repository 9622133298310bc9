"""What the formats of files have in common: how one is told, what is asked of it, and many files as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.files import Files
from baco_gpu.data.sources.headers import ColumnNames
from baco_gpu.data.sources.rows import Batch, Rows, gathered
from baco_gpu.data.sources.where import Condition

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Reading:
    """What is asked of a table: columns, conditions on its rows, and what divides the cells of text."""

    names: ColumnNames
    where: tuple[Condition, ...] = ()
    separator: str | None = None


@dataclass(frozen=True)
class Format:
    """A format of files: its name, the suffixes that say it, what opens it, and what its files may be.

    `is_text` is said of lines of cells, which a separator divides.
    """

    name: str
    suffixes: tuple[str, ...]
    rows: Callable[[Files, Reading], Rows]
    compressible: bool = False
    is_text: bool = False


class FileRows(Rows):
    """The rows of several files, one after another, with what the names of their folders say as further columns.

    Files whose folders do not fulfil a condition are never opened.
    """

    def __init__(self, files: Files, where: tuple[Condition, ...]) -> None:
        keys = files.keys
        files = files.that([condition for condition in where if condition.column in keys])
        self.source = files.name
        self.files = files.members
        self.where = tuple(condition for condition in where if condition.column not in keys)
        self.keys: dict[str, list[Any]] = {key: values for key, values in files.keys.items() if key in keys}

    @property
    def own_columns(self) -> list[str]:
        """The names of the columns that the files themselves have to give."""
        return [label for label in self.columns if label not in self.keys]

    def batches_of(self, number: int, batches: Iterable[pa.RecordBatch], first: int = 0) -> Iterator[Batch]:
        """Rows of file `number`, after `first` others, with what its folders say where that is asked for."""
        import pyarrow as pa

        for table in gathered(batches):
            rows = len(table)
            for label in self.columns:
                if label in self.keys:
                    kind = pa.int64() if any(isinstance(value, int) for value in self.keys[label]) else pa.string()
                    value = pa.scalar(self.keys[label][number], kind)
                    table = table.append_column(label, pa.repeat(value, rows))
            yield Batch(str(self.files[number]), first, table)
            first += rows
