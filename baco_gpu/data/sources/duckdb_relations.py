"""Relations of DuckDB: tables, files and queries that it knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.frames import FrameRows, library
from baco_gpu.data.sources.rows import gathered

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1 << 18


class DuckDBRows(FrameRows):
    """The rows of a relation, with the columns that are read alone, as DuckDB finds them."""

    @staticmethod
    def reads(source: Any) -> bool:
        return library(source) == "duckdb" and hasattr(source, "project")

    def header(self) -> tuple[list[str], Collection[str]]:
        return self.frame.columns, ()

    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        chosen = self.frame.project(quoted)
        read = chosen.to_arrow_reader if hasattr(chosen, "to_arrow_reader") else chosen.fetch_record_batch  # before 1.4
        return gathered(read(_BATCH_ROWS))
