"""Names of items, where a set of interactions comes with some: titles of films, so far."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from baco_gpu.data import movielens
from baco_gpu.data.fetch import SETS, fetched
from baco_gpu.errors import DAMAGE, InputError, damage

# Files of a set that have an id and a title a line: separator, column of the title, encoding, lines of header.
_FILES = {
    "movies.csv": (",", 1, "utf-8", 1),
    "movies.dat": ("::", 1, "latin-1", 0),
    "u.item": ("|", 1, "latin-1", 0),
    "ml-100k.item": ("\t", 1, "utf-8", 1),
}


def item_names(source: str | os.PathLike[str]) -> dict[int, str]:
    """Names of items by raw id.

    Parameters
    ----------
    source : path or name
        What `load_interactions` takes: "movielens-100k", a set of MovieLens that was fetched, a folder of MovieLens or
        a file of ratings in one.

    Returns
    -------
    dict of int to str; empty where no file beside the interactions has names.

    Raises
    ------
    InputError
        If there is no such source, or the file of names is damaged.
    MissingExtraError
        As of `load_interactions`.
    """
    place = Path(source)
    if source == movielens.NAME and not place.exists():
        place = movielens.movielens_100k_path()
    elif str(source) in SETS and not place.exists():
        place = fetched(str(source))
    if not place.exists():
        raise InputError(f"{place}: expected interactions, and there are none")
    folder = place if place.is_dir() else place.parent
    for name, form in _FILES.items():
        if (folder / name).is_file():
            return _read(folder / name, *form)
    return {}


def _read(file: Path, separator: str, column: int, encoding: str, header: int) -> dict[int, str]:
    try:
        with file.open(encoding=encoding, newline="") as stream:
            cells = (line.rstrip("\r\n").split(separator) for line in stream)
            rows: Any = csv.reader(stream) if separator == "," else cells
            return {int(row[0]): row[column] for number, row in enumerate(rows) if number >= header and row}
    except DAMAGE as error:
        raise InputError(f"{file}: expected an id and a title a line ({damage(error)})") from error
