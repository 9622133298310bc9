"""MovieLens-100K, from where a package already carries it, and the names of the files in folders of MovieLens."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.numbering import interactions_of
from baco_gpu.data.sources.delimited import TextRows
from baco_gpu.data.sources.files import find_files
from baco_gpu.data.sources.formats import Reading
from baco_gpu.data.sources.headers import ColumnNames
from baco_gpu.data.sources.recbole import inter_rows
from baco_gpu.errors import MissingExtraError

NAME = "movielens-100k"
FILES = ("ratings.dat", "ratings.csv", "u.data")

_PACKAGE = "recbole"
_FILE = "recbole/dataset_example/ml-100k/ml-100k.inter"
_REMEDY = "pip install --no-deps recbole==1.2.1"


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
