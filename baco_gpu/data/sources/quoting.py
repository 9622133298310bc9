"""Quotes in delimited text: one that opens a cell and does not close it makes one cell of the lines that follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

_BLOCK_BYTES = 1 << 24
_LONGEST_CELL = 1 << 24
_QUOTE, _LINE = ord('"'), ord("\n")


class _Cell(NamedTuple):
    """Where the quotes of a cell stand, and whether the cell ends with the second."""

    begin: int
    end: int
    closed: bool = True


class _Block(NamedTuple):
    """A piece of the text that begins at `first`, with a letter more at both ends, and where in it the quotes are."""

    first: int
    letters: np.ndarray
    quotes: np.ndarray


def quoted_lines(stream: BinaryIO, skip: int, delimiter: str, row: re.Pattern[bytes]) -> tuple[int | None, bool]:
    """Find a quote that opens a cell and is not closed where a cell ends, and whether cells go over several lines.

    A cell may go over several lines. It is taken for one whose quote is lost where text follows its closing quote, and
    where all that it holds after its first line is rows of the table: there, another row's quote closes it.

    Parameters
    ----------
    stream : binary file
        UTF-8 text, read a block at a time.
    skip : int
        The number of lines before its rows.
    delimiter : str of one letter
    row : pattern
        What such a cell holds after its first line, that line's end included.

    Returns
    -------
    line : int or None
        The line of the first such quote, from 1; None where all cells are closed.
    has_lines : bool
        Whether a cell in quotes holds a line break.
    """
    ends = np.zeros(256, dtype=bool)
    ends[[ord(delimiter), ord("\n"), ord("\r")]] = True
    held = b""  # the text from the quote on of a cell that began in an earlier block
    line, has_lines = skip + 1, False  # the line where `held`, or the next block, begins
    for before, text, after in _blocks(stream, skip):
        content = held + text
        opened = 0 if held else None
        letters = np.frombuffer(b"".join((before, text, after)), dtype=np.uint8)
        quotes = np.flatnonzero(letters[1:-1] == _QUOTE) + 1
        if len(quotes):
            block = _Block(len(held) - 1, letters, quotes)
            cells, opened = _cells(block, ends, opened) or _odd_cells(block, ends, opened)
            for cell in cells:
                inside = content[cell.begin + 1 : cell.end]
                first_end = inside.find(b"\n")
                has_lines |= first_end >= 0
                if first_end >= 0 and not (cell.closed and row.fullmatch(inside, first_end) is None):
                    return line + content.count(b"\n", 0, cell.begin), has_lines
        done = len(content) if opened is None else opened
        line += content.count(b"\n", 0, done)
        held = content[done:]
        if len(held) > _LONGEST_CELL:
            break
    return (line if held else None), has_lines


def _blocks(stream: BinaryIO, skip: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The text after the first `skip` lines in blocks, each with the letter before it and the one after it.

    No block ends between two quotes. Before the text and after it there are line breaks.
    """
    text = stream.read(_BLOCK_BYTES)
    while skip and text:
        _, end, text = text.partition(b"\n")
        skip -= len(end)
        text = text or stream.read(_BLOCK_BYTES)
    before = b"\n"
    while text:
        following = stream.read(_BLOCK_BYTES)
        while following and text[-1] == _QUOTE:
            text, following = text + following, stream.read(_BLOCK_BYTES)
        yield before, text, following[:1] or b"\n"
        before, text = text[-1:], following


def _cells(block: _Block, ends: np.ndarray, opened: int | None) -> tuple[list[_Cell], int | None] | None:
    """The quoted cells of several lines, and the quote of the cell that is open at the end.

    None where quotes do not open and close cells in turn (a doubled one does: it closes its cell and opens it again).
    """
    first, letters, quotes = block
    is_open = opened is not None
    opening, closing = quotes[int(is_open) :: 2], quotes[int(not is_open) :: 2]
    before, after = letters[opening - 1], letters[closing + 1]
    if not ((ends[before] | (before == _QUOTE)).all() and (ends[after] | (after == _QUOTE)).all()):
        return None
    begins, stops = opening[before != _QUOTE] + first, closing[after != _QUOTE] + first
    if opened is not None:
        begins = np.concatenate([[opened], begins])
    still_open = int(begins[-1]) if len(begins) > len(stops) else None
    breaks = np.flatnonzero(letters == _LINE)
    inside = breaks[(np.searchsorted(quotes, breaks) + is_open) % 2 == 1] + first
    has_lines = np.zeros(len(begins) + 1, dtype=bool)
    has_lines[np.searchsorted(begins, inside) - 1] = True
    has_lines[0] |= is_open  # its breaks may stand in earlier blocks
    closed = np.flatnonzero(has_lines[: len(stops)])
    return [_Cell(int(begins[at]), int(stops[at])) for at in closed], still_open


def _odd_cells(block: _Block, ends: np.ndarray, opened: int | None) -> tuple[list[_Cell], int | None]:
    """The same for quotes anywhere, one by one: in the middle of a cell that none opened they are letters."""
    first, letters, quotes = block
    cells, skipped = [], -1
    for quote in quotes.tolist():
        if quote == skipped:
            continue
        if opened is None:
            opened = quote + first if ends[letters[quote - 1]] else None
        elif letters[quote + 1] == _QUOTE:
            skipped = quote + 1
        else:
            cells.append(_Cell(opened, quote + first, bool(ends[letters[quote + 1]])))
            opened = None
    return cells, opened
