"""Reading interactions from files; the format follows from the suffix, unless it is named."""

from __future__ import annotations

import os
from pathlib import Path

from baco_gpu.checks import check_choice
from baco_gpu.data.columnar import read_parquet
from baco_gpu.data.delimited import read_delimited
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.lightgcn import read_lightgcn
from baco_gpu.data.movielens import NAME as MOVIELENS
from baco_gpu.data.movielens import movielens_100k
from baco_gpu.data.npz import read_npz
from baco_gpu.data.splits import check_fractions, check_seed, merge_repeated, random_split
from baco_gpu.data.tables import ColumnNames, interactions_of
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".inter": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "lightgcn",
    ".npz": "npz",
}
NAMES = (MOVIELENS,)
FORMATS = ("csv", "tsv", "parquet", "lightgcn", "npz")
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def load_interactions(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    weight_column: str | None = None,
    progress: Progress = silent,
) -> Interactions:
    """Read interactions from a file.

    ============  ==========================  ==================================================================
    format        suffix                      content
    ============  ==========================  ==================================================================
    "csv", "tsv"  .csv, .tsv, .inter          UTF-8 text with one interaction a line, with or without a header
    "parquet"     .parquet, .pq               one interaction a row
    "lightgcn"    .txt, or a folder           a line `user item item ...`; a folder holds train.txt and test.txt
    "npz"         .npz                        arrays train, val, test of shape (2, n), num_users, num_items
    ============  ==========================  ==================================================================

    Tables may have any integer or string ids; they are numbered in ascending order, and the vocabularies of the result
    lead back. The ids of the other two formats are numbers already, and get a vocabulary only where some number of
    0 .. n - 1 is in no file ("lightgcn").

    Of a file that comes with a given split this is the training part: `train` of an .npz file, all of train.txt of a
    folder (the sizes count the other parts too).

    Parameters
    ----------
    path : str or path
        A file, a folder, or the name "movielens-100k" (see `baco_gpu.data.movielens`).
    format : str, optional
        One of the formats above, where the suffix does not say it.
    user_column, item_column, weight_column : str, optional
        Names of columns of a table; the first two columns unless named, and no weights.
    progress : callable
        See `baco_gpu.progress`.

    Raises
    ------
    InputError
        If the path does not exist, its format is unknown, or its content is not as the format demands; the message
        names the file, what was expected and what came.
    MissingExtraError
        If "movielens-100k" is asked for and not installed.
    """
    names = ColumnNames(user_column, item_column, weight_column)
    if path == MOVIELENS and not Path(MOVIELENS).exists():
        _refuse_names(MOVIELENS, names)
        return movielens_100k()
    file, kind = _identify(path, format)
    if kind in ("npz", "lightgcn"):
        _refuse_names(kind, names)
        if kind == "npz":
            return read_npz(file).train
        files = _folder_files(file) if file.is_dir() else [file]
        return read_lightgcn(files, progress)[0]
    progress("read", 0, 2, file.name)
    columns = read_parquet(file, names) if kind == "parquet" else read_delimited(file, _DELIMITERS[kind], names)
    return interactions_of(columns, progress)


def load_split(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    format: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    weight_column: str | None = None,
    progress: Progress = silent,
) -> SplitInteractions:
    """Read interactions as training, validation and test parts.

    A given split is kept. An .npz file has all three parts. A folder has train.txt and test.txt; of the interactions of
    train.txt the share `fractions[1] / (fractions[0] + fractions[1])`, drawn at random, becomes the validation part.
    Everything else is split at random by `baco_gpu.data.splits.random_split`, a repeated pair counting once (with the
    sum of its weights), so that no pair is in two parts.

    Parameters
    ----------
    path, format, user_column, item_column, weight_column, progress
        As in `load_interactions`.
    seed : int
        Of the random choices.
    fractions : three numbers
        Shares of training, validation and test part; non-negative, and 1 in sum.

    Raises
    ------
    InputError, MissingExtraError
        As in `load_interactions`; InputError also for other fractions or seeds than described.
    """
    shares = check_fractions(fractions)
    check_seed(seed)
    names = ColumnNames(user_column, item_column, weight_column)
    if path != MOVIELENS or Path(MOVIELENS).exists():
        file, kind = _identify(path, format)
        if kind == "npz":
            _refuse_names(kind, names)
            return read_npz(file)
        if file.is_dir():
            _refuse_names(kind, names)
            train, test = read_lightgcn(_folder_files(file), progress)
            if shares[0] + shares[1] == 0:
                raise InputError("fractions must leave a part of train.txt for training or validation, got (0, 0, 1)")
            validation = shares[1] / (shares[0] + shares[1])
            carved = random_split(train, (1 - validation, validation, 0.0), seed)
            return SplitInteractions(carved.train, carved.validation, test)
    interactions = load_interactions(
        path,
        format=format,
        user_column=user_column,
        item_column=item_column,
        weight_column=weight_column,
        progress=progress,
    )
    return random_split(merge_repeated(interactions), shares, seed)


def _identify(path: str | os.PathLike[str], format: str | None) -> tuple[Path, str]:
    """The path and its format; InputError where there is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path must be a string or a path, got {type(path).__name__}")
    file = Path(path)
    if format is not None:
        check_choice("format", format, FORMATS)
    if not file.exists():
        raise InputError(f"{file}: expected a file of interactions (or the name {MOVIELENS!r}), and there is none")
    if file.is_dir():
        if format not in (None, "lightgcn"):
            raise InputError(f"{file}: expected a {format} file, got a folder")
        return file, "lightgcn"
    kind = format or SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise InputError(
            f"{file}: expected one of the suffixes {', '.join(SUFFIXES)}, got {file.suffix!r} (or name the format)"
        )
    return file, kind


def _folder_files(folder: Path) -> list[Path]:
    files = [folder / "train.txt", folder / "test.txt"]
    for file in files:
        if not file.is_file():
            raise InputError(f"{folder}: expected a folder with train.txt and test.txt, and {file.name} is missing")
    return files


def _refuse_names(kind: str, names: ColumnNames) -> None:
    if names.any_named:
        raise InputError(f"columns have names in csv, tsv and parquet files only, got a column name for {kind}")
