"""What commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from baco_gpu.progress import Progress as ProgressFunction
from baco_gpu.progress import silent
from baco_gpu.stopwatch import telling
from baco_gpu.visible import visible

_SECONDS_BETWEEN_LINES = 5.0
_UNBOUNDED = 10_000  # characters a line


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, indent=2))


def print_line(text: str, *, err: bool = False) -> None:
    """Print a line as it is."""
    print(visible(text), file=sys.stderr if err else sys.stdout)


def print_pairs(pairs: dict[str, Any], title: str) -> None:
    """Print names and values, a line each."""
    table = _two_columns(pairs, title)
    for name, value in pairs.items():
        table.add_row(Text(name), Text(visible(value)))
    _print(table)


def print_table(
    columns: list[str], rows: list[list[str]], title: str, *, numbers: bool = True, width: int | None = None
) -> None:
    """Print a table whose first column is text and whose others are numbers, or text too.

    Where there is no terminal, lines are of `width` letters, or as long as their text.

    Numbers and names are never cut: where a table is too wide for its terminal, columns come closer, and one that is
    still too wide becomes a list, a column a line.
    """
    console = _console(width)
    rows = [[visible(cell) for cell in row] for row in rows]
    for gap in (1, 0):
        table = Table(title=Text(visible(title)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0))
        table.pad_edge = False
        for index, column in enumerate(columns):
            cells = [*column.split("\n"), *(row[index] for row in rows)]
            longest = max(map(len, cells)) if numbers or index == 0 else None
            table.add_column(column, justify="right" if index and numbers else "left", min_width=longest)
        for row in rows:
            table.add_row(*map(Text, row))
        least = console.measure(table, options=console.options.update(width=_UNBOUNDED)).minimum
        if least <= console.width:
            return _print(table, width)
    return _print(_listed(columns, rows, title), width)


def _listed(columns: list[str], rows: list[list[str]], title: str) -> Table:
    """The same, a row after the other, with a line for every cell that is not empty."""
    names = [column.replace("\n", " ") for column in columns]
    table = _two_columns(names, title)
    for row in rows:
        table.add_row()
        for name, cell in zip(names, row, strict=True):
            if cell:
                table.add_row(Text(name), Text(cell))
    return table


def _two_columns(names: Iterable[str], title: str) -> Table:
    """A table for names and what they stand for, which goes on over lines."""
    table = Table(title=Text(visible(title)), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(min_width=max(map(len, names), default=0))
    table.add_column(overflow="fold")
    return table


def _console(width: int | None = None) -> Console:
    """The terminal at its width; in a pipe or a file, where nothing has a width, lines are as long as their text."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console()
    return Console(width=width or _UNBOUNDED)


def _print(table: Table, width: int | None = None) -> None:
    console = _console(width)
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


class ProgressDisplay:
    """Shows progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when hidden.

    Use as a context manager; `display.report` is the function to hand to the library, `display.named(prefix)` the
    same with a name before every phase.
    """

    def __init__(self, hidden: bool) -> None:
        self.hidden = hidden
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = ("", 0.0)
        self._compiling = ExitStack()

    def __enter__(self) -> ProgressDisplay:
        if not self.hidden:
            self._compiling.enter_context(telling(self._report))
        if not self.hidden and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:g}/{task.total:g}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._compiling.close()
        if self._bar is not None:
            self._bar.stop()

    @property
    def report(self) -> ProgressFunction:
        return silent if self.hidden else self._report

    def named(self, prefix: str) -> ProgressFunction:
        """The progress function with `prefix` before every phase."""
        report = self.report

        def named(phase: str, done: int, total: int, note: str = "") -> None:
            report(f"{prefix}: {phase}", done, total, note)

        return named

    def _report(self, phase: str, done: int, total: int, note: str = "") -> None:
        phase, note = visible(phase), visible(note)
        if self._bar is None:
            self._line(phase, done, total, note)
        elif phase in self._tasks:
            self._bar.update(self._tasks[phase], completed=done, total=total, note=note)
        else:
            self._tasks[phase] = self._bar.add_task(phase, completed=done, total=total, note=note)

    def _line(self, phase: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if phase == self._last_line[0] and done != total and now - self._last_line[1] < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = (phase, now)
        count = f" {done}/{total}" if total else ""
        print(f"{phase}{count}{': ' + note if note else ''}", file=sys.stderr, flush=True)
