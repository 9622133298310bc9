"""Reading interactions over ranks: to the share of the graph that each has, and no rank holds all edges.

- Parquet, a file or many: every rank reads its part, row groups that follow one another, of about equally many rows.
- Feather, a file or many: every rank reads its part, whole files.
- Text, JSON and all else, and what is to be split first: the first rank reads all of it and deals it out. What the ids
  in text are depends on every cell, and which interactions are in a part of a split on all of them.

Ids are numbered as one process numbers them (`shared_ids`), and rows of a user come to one rank in the order that they
have in the table: repeated pairs become one edge there, and what chooses or weighs interactions works on them as in one
process. Vocabularies are on all ranks, as nodes are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from baco_gpu.clustering.backends.share import GraphShare
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.numbering import Columns, as_interactions, numbered
from baco_gpu.data.readers import Request, load_interactions
from baco_gpu.data.sources.raw_columns import Tally, said
from baco_gpu.data.sources.rows import Rows
from baco_gpu.data.strange_ids import warn_of_strangers
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.distributed.on_host import OnHost
from baco_gpu.distributed.shared_graph import at_home, share_of_interactions
from baco_gpu.distributed.shared_ids import gathered, united
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent
from baco_gpu.ranks import Ranks

_FORMS = "a number", "a date", "a date with an offset"


def read_share(ranks: Ranks, source: Any, *, progress: Progress = silent, **reading: Any) -> GraphShare:
    """The share that this rank has of the graph of a source; all ranks make the call.

    Parameters
    ----------
    source, **reading
        What `baco_gpu.load_interactions` takes.

    Raises
    ------
    InputError
        If ranks ask for different things, or all find the same fault; what `load_interactions` raises.
    RankError
        If the part of another rank cannot be read; the message names it, and its file.
    """
    host = OnHost(ranks)
    host.agree(data=repr(source), **{name: repr(value) for name, value in reading.items()})
    request = host.together(lambda: Request(**reading))
    rows = host.together(lambda: request.rows(source, progress))
    parts = None if rows is None else host.together(lambda: rows.shares(host.size))
    if rows is None or parts is None:
        return share_out(ranks, lambda: load_interactions(source, progress=progress, **reading), progress)
    host.agree(division_of_the_data=hashlib.sha256("|".join(map(str, parts)).encode("utf-8", "replace")).hexdigest())
    own, bounds = at_home(host, _read(host, rows, parts[host.rank], request.min_rating, progress))
    own = request.refined(own, host)
    if request.core is not None:  # users are numbered anew; each has an interaction, on its own rank
        lengths = host.table(len(np.unique(own.users)))[:, 0]
        bounds = np.concatenate(([0], np.cumsum(lengths)))
    return _share(host, own, bounds, progress)


def share_out(ranks: Ranks, read: Callable[[], Interactions], progress: Progress = silent) -> GraphShare:
    """The share that this rank has of the graph of interactions that the first one reads; all ranks make the call.

    Raises
    ------
    RankError, InputError
        What `read` raises, on all ranks.
    """
    host = OnHost(ranks)
    nobody = np.empty(0, dtype=np.int32)
    mine = host.together(lambda: read() if host.rank == 0 else Interactions(nobody, nobody, 0, 0))
    width = max(mine.users.itemsize, mine.items.itemsize)
    facts = host.table(mine.num_users, mine.num_items, mine.weights is not None, width)[0]
    num_users, num_items, are_weighted, width = facts.tolist()
    users, items = (ids.astype(f"i{width}", copy=False) for ids in (mine.users, mine.items))
    weights = np.empty(0) if mine.weights is None else mine.weights.astype(np.float64, copy=False)
    mine = Interactions(
        users,
        items,
        num_users,
        num_items,
        weights if are_weighted else None,
        _everywhere(host, mine.user_vocabulary),
        _everywhere(host, mine.item_vocabulary),
    )
    return _share(host, *at_home(host, mine), progress)


def _share(host: OnHost, own: Interactions, bounds: np.ndarray, progress: Progress) -> GraphShare:
    progress("build graph", 0, 1, f"{host.table(len(own)).sum()} interactions")
    share = share_of_interactions(host, own, bounds)
    progress("build graph", 1, 1, f"{share.num_edges} edges")
    return share


def _read(host: OnHost, rows: Rows, part: Rows, min_rating: float | None, progress: Progress) -> Interactions:
    """The interactions of this rank's part, by the numbers that the ids of all have."""
    import pyarrow as pa

    tally, columns = host.together(lambda: numbered(part, min_rating, progress))
    pa.default_memory_pool().release_unused()  # what reading took and freed
    _check(host, rows, tally, min_rating)
    numbers = _alike(host, rows, columns.numbers)
    users, items = (_renumbered(host, *ids) for ids in (columns.users, columns.items))
    if host.rank == 0:
        warn_of_strangers(rows.labels["user"], users[1])
        warn_of_strangers(rows.labels["item"], items[1])
    progress("read", 2, 2, f"{host.table(len(users[0])).sum()} interactions, {said(rows.labels)}")
    return as_interactions(rows, Columns(users, items, numbers))


def _renumbered(host: OnHost, codes: np.ndarray, own: Vocabulary) -> tuple[np.ndarray, Vocabulary]:
    numbers, whole = united(host, own)
    return numbers.astype(np.int32 if len(whole) < 2**31 else np.int64)[codes], whole


def _check(host: OnHost, rows: Rows, tally: Tally, min_rating: float | None) -> None:
    """What must hold of the parts of all ranks together; raises as one process would."""
    times = tally.timestamps
    form = -1 if times.form is None else _FORMS.index(times.form)
    found = host.table(tally.rows, tally.left, _bits(tally.highest), form, times.are_days)
    forms = found[:, 3]
    there = np.flatnonzero(forms >= 0)
    for rank in there:
        if forms[rank] != forms[there[0]]:
            raise InputError(
                f"{rows.source}: column {rows.labels['timestamp']!r} must hold timestamps all in one form: the part of "
                f"rank {there[0]} has {_FORMS[forms[there[0]]]}, that of rank {rank} {_FORMS[forms[rank]]}"
            )
    whole = Tally()
    whole.rows, whole.left = found[:, :2].sum(axis=0).tolist()
    whole.highest = found[:, 2].copy().view(np.float64).max()
    if len(there) and host.rank == there[0] and found[there, 4].all():
        whole.timestamps = times  # one rank warns
    whole.check(rows, min_rating)


def _alike(host: OnHost, rows: Rows, numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of numbers with the dtype that all parts together have."""
    alike = {}
    for name in ("weights", "timestamps"):
        if name.removesuffix("s") in rows.labels:
            own = numbers.get(name, np.empty(0, dtype=np.int64))
            are_floats = name == "weights" or host.table(own.dtype.kind == "f").any()
            alike[name] = own.astype(np.float64 if are_floats else np.int64, copy=False)
    return alike


def _everywhere(host: OnHost, ids: Vocabulary | None) -> Vocabulary | None:
    """The vocabulary of the first rank."""
    there, of_integers = host.table(ids is not None, ids is None or ids.is_integer)[0]
    if not there:
        return None
    if host.rank > 0:
        import pyarrow as pa

        ids = Vocabulary([]) if of_integers else Vocabulary.from_sorted_strings(pa.array([], pa.large_string()))
    assert ids is not None
    return gathered(host, ids)[0]


def _bits(number: float) -> int:
    return int(np.array(number, dtype=np.float64).view(np.int64))
