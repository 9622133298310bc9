"""MovieLens: ratings as the published files have them, and MovieLens-100K from where a package already carries it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from baco_gpu.data.delimited import read_delimited
from baco_gpu.data.headers import ColumnNames
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.raw_columns import RawColumns, interactions_of
from baco_gpu.data.recbole import read_inter
from baco_gpu.errors import InputError, MissingExtraError

NAME = "movielens-100k"
COLUMNS = ("user", "item", "rating", "timestamp")
FILES = ("ratings.dat", "ratings.csv", "u.data")

_PACKAGE = "recbole"
_FILE = "recbole/dataset_example/ml-100k/ml-100k.inter"
_REMEDY = "pip install --no-deps recbole==1.2.1"


def read_ratings(path: Path, names: ColumnNames) -> RawColumns:
    """Read a file without a header of `user::item::rating::timestamp` lines, or of the same with tabs (u.data).

    The columns have the names user, item, rating and timestamp.

    Raises
    ------
    InputError
        If the first line is neither; and as `read_delimited`.
    """
    with path.open("rb") as stream:
        first = stream.readline(1000).rstrip(b"\r\n")
    if first.count(b"\t") == len(COLUMNS) - 1:
        return read_delimited(path, "\t", names, list(COLUMNS))
    if first.count(b"::") == len(COLUMNS) - 1:
        # Arrow splits at one letter: at every second colon a cell that is always empty begins.
        spread = [cell for column in COLUMNS for cell in (column, "")][:-1]
        named = ColumnNames(**{"user": "user", "item": "item"} | names.named)
        return read_delimited(path, ":", named, spread)
    shown = first[:60].decode("utf-8", "backslashreplace")
    raise InputError(f"{path}: expected lines such as 1::1193::5::978300760 (or the same with tabs), got {shown!r}")


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
    return interactions_of(read_movielens_100k(ColumnNames(weight="rating" if weights else None)))


def read_movielens_100k(names: ColumnNames) -> RawColumns:
    """Read some of the columns user_id, item_id, rating and timestamp (seconds since 1970); as `movielens_100k`."""
    return read_inter(movielens_100k_path(), names)


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
