"""The kinds of sources that there are: which of them an object is, and which format files have.

A new kind is a file beside this one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from baco_gpu.checks import check_choice, check_text
from baco_gpu.data.sources.delimited import CSV
from baco_gpu.data.sources.files import File, find_files
from baco_gpu.data.sources.formats import Format, Reading
from baco_gpu.data.sources.frames import ArrowRows, FrameRows
from baco_gpu.data.sources.rows import Rows
from baco_gpu.discovery import modules_of
from baco_gpu.errors import InputError

_FORMATS = [part for file in modules_of(__package__) for part in vars(file).values() if isinstance(part, Format)]
TABLES = {format.name: format for format in sorted(_FORMATS, key=lambda format: (not format.is_text, format.name))}
FRAMES = sorted(
    FrameRows.__subclasses__(), key=lambda kind: kind is ArrowRows
)  # which takes what may be one of another
BY_SUFFIX = {suffix: format for format in TABLES.values() for suffix in format.suffixes}
OTHERS = {".txt": "lightgcn", ".npz": "npz"}  # files of users and items alone, which are no tables
SUFFIXES = (*BY_SUFFIX, *OTHERS)


def is_table(source: Any) -> bool:
    """Whether an object holds a table, or makes one as it is read."""
    return any(kind.reads(source) for kind in FRAMES)


def frame_rows(frame: Any, reading: Reading) -> Rows:
    """The rows of an object of which `is_table` is true."""
    _check_separator(type(frame).__name__, "a table", None, reading)
    return next(kind for kind in FRAMES if kind.reads(frame))(frame, reading)


def file_rows(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], format: str | None, reading: Reading
) -> Rows:
    """The rows of the files that `find_files` finds, all of one format: the one that is named, or their suffix says.

    Raises
    ------
    InputError
        If there are none, their format is unknown, or two differ; and as the format's rows.
    """
    files = find_files(source)
    formats = [_format_of(file, format, reading) for file in files.members]
    for file, other in zip(files.members, formats, strict=True):
        if other is not formats[0]:
            raise InputError(
                f"{files}: expected files of one format, got {formats[0].name} ({files.members[0]}) and {other.name} "
                f"({file})"
            )
    _check_separator(files, formats[0].name, formats[0], reading)
    return formats[0].rows(files, reading)


def check_format(format: str | None) -> None:
    """Raise InputError for a format that there is not."""
    if format is not None:
        check_choice("format", format, (*TABLES, *OTHERS.values()))


def _format_of(file: File, name: str | None, reading: Reading) -> Format:
    inner, outer = file.suffixes
    if name is None and reading.separator is not None and inner not in BY_SUFFIX:
        name = CSV.name  # cells that something divides
    found = BY_SUFFIX.get(inner) if name is None else TABLES.get(name)
    if outer and (found is not None or inner in OTHERS) and (found is None or not found.compressible):
        readable = ", ".join(suffix for suffix, format in BY_SUFFIX.items() if format.compressible)
        raise InputError(
            f"{file}: expected a {inner} file as it is (of compressed ones {readable} are read), got {outer!r}: "
            "decompress it"
        )
    if found is None:
        raise InputError(
            f"{file}: expected one of the suffixes {', '.join(SUFFIXES)}, got {inner!r} (or name the format)"
        )
    return found


def _check_separator(source: object, kind: str, format: Format | None, reading: Reading) -> None:
    separator = reading.separator
    if separator is None:
        return
    check_text("separator", separator)
    if format is None or not format.is_text:
        raise InputError(f"{source}: separator applies to csv and tsv, and this is {kind}, got {separator!r}")
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
        raise InputError(f"separator must be one letter of ASCII, no quote and no line break, got {separator!r}")
