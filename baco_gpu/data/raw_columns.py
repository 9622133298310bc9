"""What the readers of tables share: the columns that were read, checked, and numbering their raw ids.

Files are read with Arrow. It was measured against polars, duckdb and pandas (benchmarks/loading.py,
benchmarks/results/loading.md), and images with PyTorch and pandas have it already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.cells import check_ids, checked_numbers, checked_timestamps
from baco_gpu.data.columns import factorize
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.text_ids import warn_of_strangers
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RawColumns:
    """What a table holds: two Arrow columns of int64 or strings, without gaps, and what else was asked for.

    `labels` are the names of the columns in the table, by their role. Weights and ratings are float64 arrays,
    timestamps an int64 or a float64 array; None where not asked for.
    """

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    labels: dict[str, str]
    weights: np.ndarray | None = None
    ratings: np.ndarray | None = None
    timestamps: np.ndarray | None = None

    def with_ratings_of(self, minimum: float) -> RawColumns:
        """The rows whose rating is at least `minimum`; InputError if there is none."""
        import pyarrow as pa

        assert self.ratings is not None
        kept = self.ratings >= minimum
        if not kept.any():
            raise InputError(
                f"min_rating must leave a rating, got {minimum:g}, and the highest is {self.ratings.max():g}"
            )
        mask = pa.array(kept)
        return RawColumns(
            self.users.filter(mask),
            self.items.filter(mask),
            self.labels,
            *(None if values is None else values[kept] for values in (self.weights, self.ratings, self.timestamps)),
        )


def interactions_of(columns: RawColumns, progress: Progress = silent) -> Interactions:
    """Number the raw ids of a table, both sides at the same time."""
    import pyarrow as pa

    # What parsing took and freed would stay with the process: up to half as much again as the columns.
    pa.default_memory_pool().release_unused()
    progress("read", 1, 2, "number the ids")
    (users, user_vocabulary), (items, item_vocabulary) = factorize(columns.users, columns.items)
    warn_of_strangers(columns.labels["user"], user_vocabulary)
    warn_of_strangers(columns.labels["item"], item_vocabulary)
    progress("read", 2, 2, f"{len(users)} interactions, {said(columns.labels)}")
    return Interactions(
        users=np.ascontiguousarray(users),
        items=np.ascontiguousarray(items),
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        weights=columns.weights,
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
        timestamps=columns.timestamps,
        columns=columns.labels,
    )


def said(labels: dict[str, str]) -> str:
    """The columns that were read, in words: users from 'customer_id', items from 'article_id'."""
    return ", ".join(f"{role}s from {label!r}" for role, label in labels.items())


def raw_columns(source: object, labels: dict[str, str], columns: dict[str, pa.ChunkedArray]) -> RawColumns:
    """The columns of a table by their role, checked; `labels` are their names in the table."""
    for role in ("user", "item"):
        check_ids(source, labels[role], columns[role])
    numbers: dict[str, np.ndarray] = {}
    for role, column in columns.items():
        if role == "timestamp":
            numbers["timestamps"] = checked_timestamps(source, labels[role], column)
        elif role in ("weight", "rating"):
            minimum = 0.0 if role == "weight" else None
            numbers[f"{role}s"] = checked_numbers(source, labels[role], column, minimum)
    return RawColumns(columns["user"], columns["item"], labels, **numbers)


def brief(error: BaseException) -> str:
    """The first line of a library's message, to stand inside one of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
