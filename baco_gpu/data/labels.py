"""Cluster labels by raw id, as a table in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from baco_gpu.atomic import replacing
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".parquet", ".csv")


def check_labels_path(path: Path) -> None:
    """Raise InputError unless the suffix of `path` names a format that `write_labels` knows."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"labels {path}: expected a name that ends in {' or '.join(SUFFIXES)}, got {path.suffix!r}")


def write_labels(path: Path, frames: Mapping[str, pandas.DataFrame]) -> None:
    """Write one table with the column `side` (the key) before the columns of each frame; whole or not at all."""
    import pandas

    check_labels_path(path)
    parts = [frame.assign(id=frame["id"].astype(str)) for frame in frames.values()]
    if len({str(frame["id"].dtype) for frame in frames.values()}) == 1:
        parts = list(frames.values())  # one kind of raw id on both sides: it stays as it is
    table = pandas.concat(parts, keys=list(frames), names=["side"]).reset_index(level="side")
    if "secondary" in table:  # of one side alone: empty on the other, and still integers
        table["secondary"] = table["secondary"].astype("Int64")
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)
