"""MovieLens: ratings as the published files have them, and MovieLens-100K from where a package already carries it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

from baco_gpu.data.files import Files, find_files
from baco_gpu.data.headers import ColumnNames
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.numbering import interactions_of
from baco_gpu.data.sources.delimited import TextRows
from baco_gpu.data.sources.formats import Format, Reading
from baco_gpu.data.sources.recbole import inter_rows
from baco_gpu.data.sources.text_beginnings import beginning
from baco_gpu.errors import InputError, MissingExtraError

NAME = "movielens-100k"
COLUMNS = ("user", "item", "rating", "timestamp")
FILES = ("ratings.dat", "ratings.csv", "u.data")

_PACKAGE = "recbole"
_FILE = "recbole/dataset_example/ml-100k/ml-100k.inter"
_REMEDY = "pip install --no-deps recbole==1.2.1"


def rating_rows(files: Files, reading: Reading) -> TextRows:
    """The rows of files without a header of `user::item::rating::timestamp` lines, or of the same with tabs (u.data).

    The columns have the names user, item, rating and timestamp.

    Raises
    ------
    InputError
        If the first line is neither; and as `TextRows`.
    """
    file = files.members[0]
    first = beginning(file).partition("\n")[0].rstrip("\r")
    if first.count("\t") == len(COLUMNS) - 1:
        return TextRows(files, reading, "\t", list(COLUMNS))
    if first.count("::") == len(COLUMNS) - 1:
        # Arrow splits at one letter: at every second colon a cell that is always empty begins.
        spread = [cell for column in COLUMNS for cell in (column, "")][:-1]
        named = ColumnNames(**{"user": "user", "item": "item"} | reading.names.named)
        return TextRows(files, replace(reading, names=named), ":", spread)
    raise InputError(
        f"{file}: expected lines such as 1::1193::5::978300760 (or the same with tabs), got {first[:60]!r}"
    )


def movielens_100k(*, weights: bool = False) -> Interactions:
    """Return the 100,000 ratings of 943 users for 1,682 films (GroupLens; their terms of use apply).

    Every rating is an interaction, whatever its value; with `weights` the ratings (1 to 5) are the weights. The
    vocabularies hold the original ids.

    Raises
    ------
    MissingExtraError
        If the package that carries the file is not installed; the message has the command that installs it.
    InputError
        If the file is damaged.
    """
    return interactions_of(movielens_100k_rows(Reading(ColumnNames(weight="rating" if weights else None))))


def movielens_100k_rows(reading: Reading) -> TextRows:
    """The rows, with the columns user_id, item_id, rating and timestamp (seconds since 1970); as `movielens_100k`."""
    return inter_rows(find_files(movielens_100k_path()), reading)


def movielens_100k_path() -> Path:
    """Return the path of the file; raise MissingExtraError, with the remedy, where it is not installed."""
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f"{NAME} comes with the package recbole, which is missing; install it: {_REMEDY}"
        ) from error
    for file in files:
        path = Path(str(file.locate()))
        if file.as_posix() == _FILE and path.is_file():
            return path
    raise MissingExtraError(f"{NAME} is not in the installed package recbole; install the version with it: {_REMEDY}")


RATINGS = Format("movielens", (".dat", ".data"), rating_rows, compressible=True)
