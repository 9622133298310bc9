"""Datasets of Arrow."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.frames import FrameRows, library, schema_header
from baco_gpu.data.sources.rows import gathered

if TYPE_CHECKING:
    import pyarrow as pa


class DatasetRows(FrameRows):
    """The rows of a `pyarrow.dataset.Dataset`, by the schema and the filter that it was made with."""

    @staticmethod
    def reads(source: Any) -> bool:
        return library(source) == "pyarrow" and hasattr(source, "scanner")

    def header(self) -> tuple[list[str], Collection[str]]:
        return schema_header(self.frame.schema)

    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        expressions = [
            condition.expression(self.source, self.frame.schema.field(condition.column).type)
            for condition in self.where
        ]
        where = reduce(and_, expressions) if expressions else None
        return gathered(self.frame.scanner(columns=columns, filter=where).to_batches())
