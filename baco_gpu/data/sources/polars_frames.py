"""Data frames of polars, and lazy ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.frames import FrameRows, library

if TYPE_CHECKING:
    import pyarrow as pa


class PolarsRows(FrameRows):
    """The rows of a frame of polars; of a lazy one the columns that are read alone, as polars finds them."""

    @staticmethod
    def reads(source: Any) -> bool:
        return library(source) == "polars" and hasattr(source, "collect_schema")

    def header(self) -> tuple[list[str], Collection[str]]:
        return self.frame.collect_schema().names(), ()

    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        chosen = self.frame.select(columns)
        if not hasattr(chosen, "collect_batches"):
            return [chosen.to_arrow()]
        return (frame.to_arrow() for frame in chosen.collect_batches(maintain_order=True))
