"""Data frames of pandas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from baco_gpu.data.sources.frames import FrameRows, library
from baco_gpu.data.sources.headers import says

if TYPE_CHECKING:
    import pyarrow as pa


class PandasRows(FrameRows):
    """The rows of a data frame of pandas, without a copy where it holds them as Arrow does.

    The named levels of the index are columns, too, for those who ask for them or where their names say user or item.
    """

    @staticmethod
    def reads(source: Any) -> bool:
        return library(source) == "pandas" and hasattr(source, "columns")

    def header(self) -> tuple[list[str], Collection[str]]:
        columns, levels = self.frame.columns, self.frame.index.names
        named = [str(level) for level in levels if level is not None]
        # Columns that have a name together are what that names, such as the items of a pivot: each for itself is none.
        # And words that number rows are the users of a matrix, unless a name says where these are.
        labelled = self.frame.index.inferred_type == "string" and levels == [None]
        known = any(says(str(name), role) for name in columns for role in ("user", "item"))
        matrix = any(name is not None for name in columns.names) or (labelled and not known)
        return [*map(str, columns), *named], named + ([*map(str, columns)] if matrix else [])

    def tables(self, columns: list[str]) -> Iterable[pa.Table]:
        import pyarrow as pa

        own, levels = ([str(name) for name in axis] for axis in (self.frame.columns, self.frame.index.names))
        values = {
            label: self.frame.iloc[:, own.index(label)]
            if label in own
            else self.frame.index.get_level_values(levels.index(label))
            for label in columns
        }
        return [pa.table({label: pa.array(column, from_pandas=True) for label, column in values.items()})]
