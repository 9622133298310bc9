"""The second step of reading: raw ids, which come in batches, become contiguous ones.

Batches are encoded some at a time, each such segment for itself, while the next are read: what is kept of it are codes
of 4 bytes a row and its distinct ids, in any order. In the end the distinct ids of all segments are numbered in
ascending order, and lead from the codes of each segment to those of all. So the raw ids of a long table are never in
memory at once, and the numbers are the same however the table came in parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from baco_gpu.data.factorizing import Encoded, encode, factorize
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.sources.raw_columns import RawColumns, Tally, raw_batches, said
from baco_gpu.data.sources.rows import Anew, Rows
from baco_gpu.data.strange_ids import warn_of_strangers
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

_SEGMENT_BYTES = 1 << 29  # of raw ids
_NUMBERS = ("weights", "timestamps")

Numbered = tuple[np.ndarray, Vocabulary]


def interactions_of(rows: Rows, min_rating: float | None = None, progress: Progress = silent) -> Interactions:
    """Read all rows (of at least this rating) and number their ids in ascending order.

    Raises
    ------
    InputError
        As `raw_batches`, and where nothing is left.
    """
    tally, columns = numbered(rows, min_rating, progress)
    tally.check(rows, min_rating)
    users, items = _settled(rows, "user", columns.users), _settled(rows, "item", columns.items)
    warn_of_strangers(rows.labels["user"], users[1])
    warn_of_strangers(rows.labels["item"], items[1])
    progress("read", 2, 2, f"{len(users[0])} interactions, {said(rows.labels)}")
    return as_interactions(rows, columns._replace(users=users, items=items))


class Columns(NamedTuple):
    """Users and items by number, and the other columns as arrays."""

    users: Numbered
    items: Numbered
    numbers: dict[str, np.ndarray]


def numbered(rows: Rows, min_rating: float | None = None, progress: Progress = silent) -> tuple[Tally, Columns]:
    """Read all rows, of which there may be none; `Tally.check` is still to be called."""
    while True:
        tally = Tally()
        try:
            return tally, _numbered(raw_batches(rows, tally, min_rating), progress)
        except Anew:
            continue


def as_interactions(rows: Rows, columns: Columns) -> Interactions:
    """What was read from `rows`."""
    (users, user_vocabulary), (items, item_vocabulary), numbers = columns
    return Interactions(
        users=users,
        items=items,
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
        columns=rows.labels,
        **numbers,
    )


class _Segment(NamedTuple):
    """Rows whose ids are encoded together."""

    users: pa.ChunkedArray
    items: pa.ChunkedArray
    numbers: dict[str, list[np.ndarray]]


def _numbered(batches: Iterable[RawColumns], progress: Progress) -> Columns:
    parts: list[Future[list[Encoded]]] = []
    numbers: dict[str, list[np.ndarray]] = {}
    read = 0
    with ThreadPoolExecutor(1) as beside:
        for segment, is_all in _segments(batches):
            if is_all:
                progress("read", 1, 2, "number the ids")
                users, items = factorize(segment.users, segment.items)
                return Columns(users, items, _whole(segment.numbers))
            if parts:
                parts[-1].result()  # no more than one waits
                progress("read", 0, 2, f"{read:,} rows")
            read += len(segment.users)
            parts.append(beside.submit(encode, segment.users, segment.items, ordered=False))
            for name, pieces in segment.numbers.items():
                numbers.setdefault(name, []).extend(pieces)
            del segment
    progress("read", 1, 2, "number the ids")
    sides = [list(side) for side in zip(*(part.result() for part in parts), strict=True)] or [[], []]
    parts.clear()
    return Columns(joined(sides[0]), joined(sides[1]), _whole(numbers))


def _whole(numbers: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate(pieces) for name, pieces in numbers.items()}


def _segments(batches: Iterable[RawColumns]) -> Iterator[tuple[_Segment, bool]]:
    """The batches in segments, and of each whether it is all there is."""
    gathered: list[RawColumns] = []
    size, is_first = 0, True
    for batch in batches:
        gathered.append(batch)
        size += batch.nbytes
        if size >= _SEGMENT_BYTES:
            yield _segment(gathered), False
            gathered, size, is_first = [], 0, False
    if gathered:
        yield _segment(gathered), is_first


def _segment(batches: list[RawColumns]) -> _Segment:
    import pyarrow as pa

    # What reading took and freed would stay with the process: up to half as much again as the columns.
    pa.default_memory_pool().release_unused()
    users, items = (_chunked([getattr(batch, side) for batch in batches]) for side in ("users", "items"))
    numbers = {
        name: [getattr(batch, name) for batch in batches] for name in _NUMBERS if getattr(batches[0], name) is not None
    }
    return _Segment(users, items, numbers)


def _chunked(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Columns below one another; strings with long offsets where some have them."""
    import pyarrow as pa

    if len({column.type for column in columns}) > 1:
        columns = [column.cast(pa.large_string()) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def joined(parts: list[Encoded]) -> Numbered:
    """Number parts that were encoded each for itself as one; `parts` is empty afterwards, for its memory's sake."""
    import pyarrow as pa

    if not parts:
        return np.empty(0, dtype=np.int32), Vocabulary([])
    ((ranks, vocabulary),) = factorize(pa.chunked_array([values for _, values in parts]))
    codes = np.empty(sum(len(part) for part, _ in parts), dtype=ranks.dtype)
    end, own_end = len(codes), len(ranks)
    while parts:
        part, values = parts.pop()
        own = ranks[own_end - len(values) : own_end]
        np.take(own, part, out=codes[end - len(part) : end], mode="clip")
        end, own_end = end - len(part), own_end - len(values)
    return codes, vocabulary


def _settled(rows: Rows, role: str, numbered: Numbered) -> Numbered:
    """Codes of what a column's ids are, now that all of them are known."""
    codes, vocabulary = numbered
    if vocabulary.is_integer:
        return numbered
    ids = vocabulary.to_arrow(np.arange(len(vocabulary)))
    settled = rows.settled(rows.labels[role], ids, codes)
    if settled is ids:
        return numbered
    import pyarrow as pa

    ((ranks, vocabulary),) = factorize(pa.chunked_array([settled]))
    return ranks[codes], vocabulary
