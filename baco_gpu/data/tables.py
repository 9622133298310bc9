"""What the readers of tables share: which columns are read, what must hold of them, and numbering their raw ids.

Files are read with Arrow. It was measured against polars, duckdb and pandas (benchmarks/loading.py,
benchmarks/results/loading.md), and images with PyTorch and pandas have it already.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.columns import factorize
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ColumnNames:
    """Which columns to read; None stands for the first (user), the second (item), and no weights."""

    user: str | None = None
    item: str | None = None
    weight: str | None = None

    @property
    def any_named(self) -> bool:
        return any(name is not None for name in (self.user, self.item, self.weight))


@dataclass(frozen=True)
class RawColumns:
    """What a table holds: two Arrow columns of int64 or strings, without gaps; and float64 weights or None."""

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    weights: np.ndarray | None


def interactions_of(columns: RawColumns, progress: Progress = silent) -> Interactions:
    """Number the raw ids of a table, both sides at the same time."""
    progress("read", 1, 2, "number the ids")
    with ThreadPoolExecutor(2) as threads:
        numbered = threads.map(factorize, (columns.users, columns.items))
        (users, user_vocabulary), (items, item_vocabulary) = numbered
    progress("read", 2, 2, f"{len(users)} interactions")
    return Interactions(
        users=np.ascontiguousarray(users),
        items=np.ascontiguousarray(items),
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        weights=columns.weights,
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
    )


def positions_of(source: object, header: list[str] | None, names: ColumnNames) -> list[int]:
    """Positions of the user, the item and, if there are weights, the weight column; InputError names `source`."""
    wanted = [(names.user, 0), (names.item, 1)]
    positions = [default if name is None else _find(source, header, name) for name, default in wanted]
    if positions[0] == positions[1]:
        label = header[positions[0]] if header else positions[0] + 1
        raise InputError(f"{source}: users and items must be different columns, got {label!r} for both")
    if names.weight is not None:
        weight = _find(source, header, names.weight)
        if weight in positions:
            raise InputError(f"{source}: weights must be a column of their own, got {names.weight!r}")
        positions.append(weight)
    return positions


def _find(source: object, header: list[str] | None, name: str) -> int:
    if header is None or name not in header:
        found = ", ".join(map(repr, header or []))
        raise InputError(f"{source}: expected a column {name!r}, the columns are {found}")
    return header.index(name)


def check_ids(source: object, label: str, column: pa.ChunkedArray) -> None:
    """Raise InputError where an id is missing, or is a negative integer: these mark missing ids more often than they
    name anything.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise InputError(f"{source}: column {label!r} must have an id in every row, data row {row} has none")
    if not pa.types.is_integer(column.type) or not len(column) or pc.min(column).as_py() >= 0:
        return
    row = int(pc.index(pc.less(column, 0), True).as_py())
    raise InputError(
        f"{source}: column {label!r} must hold non-negative integer or string ids, data row {row + 1} has {column[row]}"
    )


def checked_weights(source: object, label: str, values: np.ndarray) -> np.ndarray:
    """Return weights as a float64 array; InputError unless they are finite and non-negative."""
    weights = np.ascontiguousarray(values, dtype=np.float64)
    valid = np.isfinite(weights) & (weights >= 0)
    if not valid.all():
        row = int((~valid).argmax())
        got = "no number" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise InputError(
            f"{source}: column {label!r} must hold finite non-negative numbers, data row {row + 1} has {got}"
        )
    return weights


def brief(error: BaseException) -> str:
    """The first line of a library's message, to stand inside one of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
