"""Tables by raw id in a file: cluster labels, and answers for many users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from baco_gpu.atomic import replacing
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".parquet", ".csv")


def check_table_path(path: Path) -> None:
    """Raise InputError unless the suffix of `path` names a format that is written here."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"output {path}: expected a name that ends in {' or '.join(SUFFIXES)}, got {path.suffix!r}")


def write_labels(path: Path, frames: Mapping[str, pandas.DataFrame]) -> None:
    """Write one table with the column `side` (the key) before the columns of each frame; whole or not at all."""
    import pandas

    check_table_path(path)
    parts = [frame.assign(id=frame["id"].astype(str)) for frame in frames.values()]
    if len({str(frame["id"].dtype) for frame in frames.values()}) == 1:
        parts = list(frames.values())  # one kind of raw id on both sides: it stays as it is
    table = pandas.concat(parts, keys=list(frames), names=["side"]).reset_index(level="side")
    if "secondary" in table:  # of one side alone: empty on the other, and still integers
        table["secondary"] = table["secondary"].astype("Int64")
    write_frames(path, [table])


def write_frames(path: Path, frames: Iterable[pandas.DataFrame]) -> int:
    """Write data frames of the same columns one below the other, as they come, whole or not at all; returns the lines.

    The suffix of `path` is .parquet or .csv.
    """
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    check_table_path(path)
    lines = 0
    with replacing(path) as temporary, ExitStack() as open_files:
        writer = None
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                if path.suffix == ".parquet":
                    writer = pq.ParquetWriter(str(temporary), table.schema)
                else:
                    options = pc.WriteOptions(quoting_header="none")
                    writer = pc.CSVWriter(str(temporary), table.schema, write_options=options)
                open_files.enter_context(writer)
            writer.write_table(table)
            lines += len(table)
    return lines
