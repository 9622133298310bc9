"""Objects that hold a table, or make one as it is read: what they have in common, and those of Arrow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.formats import Reading
from baco_gpu.data.sources.headers import labels_of
from baco_gpu.data.sources.rows import Batch, Rows, gathered
from baco_gpu.data.sources.where import check_columns
from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1 << 20


class FrameRows(Rows):
    """The rows of an object; a subclass says which objects are its own, what columns they have, and reads them.

    Raises
    ------
    InputError
        For fewer than two columns or a missing one, names that leave open which columns are users and items, or what
        its library cannot read.
    """

    def __init__(self, frame: Any, reading: Reading) -> None:
        self.source = f"{library(frame)} {type(frame).__name__}"
        self.frame = frame
        with _holding(self.source):
            header, aside = self.header()
        self.labels = labels_of(self.source, header, reading.names, aside)
        self.where = reading.where
        check_columns(self.source, self.where, header)

    def batches(self) -> Iterator[Batch]:
        with _holding(self.source):
            first = 0
            for table in self.tables(self.columns):
                for start in range(0, len(table), _BATCH_ROWS):
                    yield Batch(self.source, first + start, table.slice(start, _BATCH_ROWS))
                first += len(table)

    @staticmethod
    @abstractmethod
    def reads(source: Any) -> bool:
        """Whether an object is of this kind."""

    @abstractmethod
    def header(self) -> tuple[list[str], Collection[str]]:
        """The names of all columns, and those of columns that only their name chooses."""

    @abstractmethod
    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        """The rows in their order, with these columns."""


class ArrowRows(FrameRows):
    """The rows of tables of Arrow, and of what hands its columns out as Arrow does (its C stream, or interchange)."""

    @staticmethod
    def reads(source: Any) -> bool:
        streams = hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")
        return streams and (hasattr(source, "columns") or _is_reader(source))

    def header(self) -> tuple[list[str], Collection[str]]:
        import pyarrow as pa
        import pyarrow.interchange

        if not isinstance(self.frame, (pa.Table, pa.RecordBatchReader)):
            if hasattr(self.frame, "__arrow_c_stream__"):
                self.frame = pa.RecordBatchReader.from_stream(self.frame)
            else:
                self.frame = pyarrow.interchange.from_dataframe(self.frame)
        return schema_header(self.frame.schema)

    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        import pyarrow as pa

        if isinstance(self.frame, pa.Table):
            return [self.frame.select(columns)]
        return gathered(batch.select(columns) for batch in self.frame)


def schema_header(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The names of a schema's columns, and of those that pandas has for an index."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return schema.names, [name for name in index if isinstance(name, str)]


def library(frame: Any) -> str:
    """The library that a frame is of, or that it inherits from."""
    libraries = [kind.__module__.partition(".")[0].lstrip("_") for kind in type(frame).__mro__]
    return next((library for library in libraries if library in ("pandas", "polars")), libraries[0])


def _is_reader(source: Any) -> bool:
    import pyarrow as pa

    return isinstance(source, pa.RecordBatchReader)


@contextmanager
def _holding(source: str) -> Iterator[None]:
    """InputError for whatever a library says of a table that it cannot hand out."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source}: expected columns that Arrow can hold, but {brief(error)}") from error
