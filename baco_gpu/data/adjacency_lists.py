"""The text format of LightGCN: a line names a user and then its items, all as integers with spaces between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from baco_gpu.data.factorizing import contiguous_codes
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

_BLOCK_BYTES = 1 << 25
_LONGEST_ID = 18  # digits; 19 may exceed 64 bits
_LEAST_TIME = 10**8  # in seconds since 1970: 1973
_HIGHEST_RATING = 10
_NO_CHANCE = 1e-9
_SPACE = np.zeros(256, dtype=bool)
_SPACE[list(b" \t\r\n")] = True
_ALLOWED = _SPACE.copy()
_ALLOWED[list(b"0123456789")] = True


@dataclass(frozen=True)
class _Edges:
    users: np.ndarray
    items: np.ndarray
    named_users: np.ndarray  # the users of all lines, those without items too
    fewest: int  # items of a line, least and most
    most: int


def read_lightgcn(paths: list[Path], progress: Progress = silent) -> list[Interactions]:
    """Read files that number the same users and items, such as train.txt and test.txt.

    Where the ids of a side are exactly 0 .. n - 1 over all files, they stay as they are, without a vocabulary.
    Otherwise the distinct ids are numbered in ascending order and kept as a vocabulary. A user without items counts.

    Returns
    -------
    list of Interactions, one a file
        With the sizes and vocabularies of all files together.

    Raises
    ------
    InputError
        For a file without any interaction, a line with anything but non-negative integers of up to 18 digits, or lines
        of a user, an item and a rating or a time.
    """
    parts = [_read_file(path, progress) for path in paths]
    lengths = [len(part.users) for part in parts]
    named = np.concatenate([part.named_users for part in parts])
    users, num_users, user_vocabulary = contiguous_codes(np.concatenate([part.users for part in parts]), named)
    items, num_items, item_vocabulary = contiguous_codes(np.concatenate([part.items for part in parts]))
    bounds = np.cumsum([0, *lengths])
    return [
        Interactions(
            users[start:stop],
            items[start:stop],
            num_users,
            num_items,
            user_vocabulary=user_vocabulary,
            item_vocabulary=item_vocabulary,
        )
        for start, stop in pairwise(bounds)
    ]


def _read_file(path: Path, progress: Progress) -> _Edges:
    total = path.stat().st_size
    blocks, line, done = [], 1, 0
    for block in _blocks(path):
        blocks.append(_parse(path, block, line))
        line += block.count(b"\n")
        done += len(block)
        progress("read", done, total, path.name)
    if sum(len(block.users) for block in blocks) == 0:
        raise InputError(f"{path}: expected lines of a user and its items, got no interaction")
    edges = _Edges(
        np.concatenate([block.users for block in blocks]),
        np.concatenate([block.items for block in blocks]),
        np.concatenate([block.named_users for block in blocks]),
        fewest=min(block.fewest for block in blocks),
        most=max(block.most for block in blocks),
    )
    if _are_triples(edges):
        raise InputError(
            f"{path}: expected lines of a user and its items, and these look like a user, an item and a rating or a "
            "time (write them with commas as a .csv, or with tabs as a .tsv, and a header such as user,item,rating)"
        )
    return edges


def _are_triples(edges: _Edges) -> bool:
    """Whether lines of three or four numbers are each a user, an item, and what it thought of it, or when.

    Then users come again, or the last number is a time where the second is none, or it is a rating of up to 10 where
    second numbers are so rarely that small that no chance puts only small ones last.
    """
    if edges.fewest != edges.most or edges.most not in (2, 3):
        return False
    items = edges.items.reshape(-1, edges.most)
    first, last, count = items[:, 0], items[:, -1], len(items)
    if len(np.unique(edges.named_users)) < count:
        return True
    if count > 1 and last.min() >= _LEAST_TIME > first.max():
        return True
    small = (int((first <= _HIGHEST_RATING).sum()) + 1) / (count + 2)
    return bool(last.max() <= _HIGHEST_RATING and small**count < _NO_CHANCE)


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block + stream.readline()


def _parse(path: Path, block: bytes, first_line: int) -> _Edges:
    """Parse whole lines without a loop over them: the tokens of a block are converted at once, then dealt to lines."""
    letters = np.frombuffer(block, dtype=np.uint8)
    allowed = _ALLOWED[letters]
    if not allowed.all():
        _refuse(path, block, int(allowed.argmin()), first_line, "non-negative integers")
    space = _SPACE[letters]
    begins = ~space
    begins[1:] &= space[:-1]
    starts = np.flatnonzero(begins)
    if len(starts) == 0:
        nothing = np.empty(0, dtype=np.int64)
        return _Edges(nothing, nothing, nothing, fewest=len(block), most=0)
    too_long = starts[_has_long_token(space, starts)]
    if len(too_long):
        _refuse(path, block, int(too_long[0]), first_line, f"integers of up to {_LONGEST_ID} digits")
    tokens = np.fromstring(block, dtype=np.int64, sep=" ")  # any white space separates
    newlines = np.flatnonzero(letters == ord("\n"))
    lines = np.searchsorted(newlines, starts)
    opens = np.empty(len(tokens), dtype=bool)
    opens[0] = True
    np.not_equal(lines[1:], lines[:-1], out=opens[1:])
    named_users = tokens[opens]
    counts = np.diff(np.flatnonzero(opens), append=len(tokens)) - 1
    return _Edges(np.repeat(named_users, counts), tokens[~opens], named_users, int(counts.min()), int(counts.max()))


def _has_long_token(space: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Which tokens have more than _LONGEST_ID digits."""
    ends = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    if len(ends) < len(starts):
        ends = np.append(ends, len(space))
    return ends - starts > _LONGEST_ID


def _refuse(path: Path, block: bytes, position: int, first_line: int, expected: str) -> None:
    line = first_line + block.count(b"\n", 0, position)
    begin = max(block.rfind(mark, 0, position) for mark in (b" ", b"\t", b"\n")) + 1
    token = block[begin:].split(maxsplit=1)[0][:40].decode("utf-8", "backslashreplace")
    raise InputError(f"{path}: expected {expected} separated by spaces, line {line} has {token!r}")
