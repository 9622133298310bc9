"""Reading interactions from files and data frames; the format follows from the suffix, unless it is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baco_gpu.checks import check_choice, check_integer, check_number, check_text, shown, suggestion
from baco_gpu.data import movielens
from baco_gpu.data.adjacency_lists import read_lightgcn
from baco_gpu.data.alone import ALONE
from baco_gpu.data.fetch import SETS, fetched
from baco_gpu.data.filtering import k_core
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.npz import read_npz
from baco_gpu.data.numbering import interactions_of
from baco_gpu.data.sources.files import is_elsewhere, is_path
from baco_gpu.data.sources.formats import Reading
from baco_gpu.data.sources.headers import ColumnNames, Usual
from baco_gpu.data.sources.kinds import OTHERS, TABLES, check_format, file_rows, frame_rows, is_table
from baco_gpu.data.sources.rows import Rows
from baco_gpu.data.sources.where import conditions_of
from baco_gpu.data.splits import check_fractions, check_seed, merge_repeated, random_split
from baco_gpu.data.temporal import leave_last_out, temporal_split
from baco_gpu.data.weighting import check_weighting, weighted
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent
from baco_gpu.ranks import Summing

NAMES = (movielens.NAME, *SETS)
_LIGHTGCN_FILES = ("train.txt", "test.txt")
SPLITS = ("random", "leave-last-out", "temporal")


def load_interactions(
    source: Any,
    *,
    format: str | None = None,
    separator: str | None = None,
    where: str | Sequence[str] | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    weight_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    min_rating: float | None = None,
    core: int | None = None,
    weighting: str | None = None,
    half_life: float | None = None,
    progress: Progress = silent,
) -> Interactions:
    """Read interactions from files, wherever they are, or from an object that holds a table.

    | format       | suffix                   | content                                                          |
    |--------------|--------------------------|------------------------------------------------------------------|
    | "csv", "tsv" | .csv, .tsv               | UTF-8 text with one interaction a line, with or without a header |
    | "recbole"    | .inter                   | the same with tabs; the header gives types, `user_id:token`      |
    | "movielens"  | .dat, .data, or a folder | lines `user::item::rating::timestamp`, or with tabs (u.data)     |
    | "jsonl"      | .jsonl, .ndjson, .json   | an object with one interaction a line                            |
    | "parquet"    | .parquet, .pq            | one interaction a row                                            |
    | "feather"    | .feather, .arrow         | one interaction a row                                            |
    | "lightgcn"   | .txt, or a folder        | lines `user item item ...`; of a folder train.txt and test.txt   |
    | "npz"        | .npz                     | arrays train, val, test of shape (2, n), num_users, num_items    |

    All but the last two are tables. A table may be one file or many of one format: a folder (names that begin with a
    dot or an underscore do not count), a pattern, or a list. What folder names say, such as `dt=2026-01-01`, is a
    column. Rows are read in batches, and numbered as they come.

    Users and items are the columns whose names say so (user_id, CustomerID, item, StockCode, ...). Where no name does,
    they are the two columns that remain beside times, amounts and row numbers, in their order; without a header, the
    first two. Any other case is an error. `columns` of the result says what was read.

    Ids are integers or strings; they are numbered in ascending order, and the vocabularies of the result lead back. In
    text a column holds integers if all its cells do. A 1.0 or a word such as NULL among integers is refused, since one
    id would become two. In .csv (whose lines semicolons, tabs or bars may divide, too) cells may stand in quotes;
    between the tabs of .tsv and .inter a quote is a letter. Text and JSON may be compressed (.csv.gz, .bz2, .zst).

    The ids of the last two formats are numbers already, and get a vocabulary only where some number of
    0 .. n - 1 is in no file ("lightgcn").

    If a file comes with a split, this is its training part: `train` of an .npz file, train.txt of a folder (the sizes
    count the other parts too). It is taken as it is: options that choose or weigh interactions are for data without a
    split.

    Parameters
    ----------
    source : path, str, list of paths, or an object
        A file, a folder, a pattern (`clicks/*/part-*.csv.gz`, with `**` for any folders), an address of a file system
        of Arrow or fsspec (`s3://bucket/clicks`), a list of these, or the name of a set ("movielens-100k", see
        `baco_gpu.data.movielens`, or one that `baco_gpu.data.fetch` has fetched, such as "gowalla"). Or a data frame of
        pandas or polars (lazy ones, too), a table, dataset or stream of pyarrow, a relation of DuckDB, or any object
        with Arrow's interface. It is a table of pairs, not a matrix.
    format : str, optional
        One of the formats above, where the suffix does not say it.
    separator : str of one letter, optional
        The separator of cells in text, if the suffix and the first lines do not tell it.
    where : str or list of str, optional
        Conditions, all of which rows fulfil, such as "dt>=2026-01-01": a column, one of =, !=, <, <=, > and >=, and a
        value. Files whose folders fail one are not opened. In text, conditions are on what folders say.
    user_column, item_column, weight_column : str, optional
        Names of columns of a table; what their names say unless given, and no weights.
    rating_column, timestamp_column : str, optional
        Where ratings and timestamps stand. Where they are needed and not named: "rating" and "timestamp", or the column
        of a similar name (stars, created_at).
    min_rating : float, optional
        Only interactions of at least this rating count.
    core : int, optional
        Users and items with fewer distinct partners are left out, repeatedly (`k_core`).
    weighting : {"once", "counts", "recency"}, optional
        Weights of repeated and of old pairs (`weighted`). By default interactions stay as they are, and a graph counts
        a repeated pair once (or sums its weights).
    half_life : float, optional
        For weighting "recency", in the unit of the timestamps (seconds for columns of dates).
    progress : callable
        See `baco_gpu.progress`.

    Raises
    ------
    InputError
        If the source does not exist, its format is unknown, its content is not as the format demands, or nothing is
        left; the message names the file, what was expected and what came.
    MissingExtraError
        If "movielens-100k" is asked for and not installed.
    """
    request = Request(
        format=format,
        separator=separator,
        where=where,
        user_column=user_column,
        item_column=item_column,
        weight_column=weight_column,
        rating_column=rating_column,
        timestamp_column=timestamp_column,
        min_rating=min_rating,
        core=core,
        weighting=weighting,
        half_life=half_life,
    )
    rows = request.rows(source, progress)
    if rows is None:
        return _interactions_of_given(source, request, progress)
    return request.refined(interactions_of(rows, min_rating, progress))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a source: the keywords of `load_interactions`, checked as far as they can be without it."""

    format: str | None = None
    separator: str | None = None
    where: str | Sequence[str] | None = None
    user_column: str | None = None
    item_column: str | None = None
    weight_column: str | None = None
    rating_column: str | None = None
    timestamp_column: str | None = None
    min_rating: float | None = None
    core: int | None = None
    weighting: str | None = None
    half_life: float | None = None

    def __post_init__(self) -> None:
        for name in ("user_column", "item_column", "weight_column", "rating_column", "timestamp_column"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        check_weighting(self.weighting, self.half_life)
        if self.min_rating is not None:
            check_number("min_rating", self.min_rating)
        if self.core is not None:
            check_integer("core", self.core, minimum=1)

    @property
    def names(self) -> ColumnNames:
        """The columns by their role, those among them that are needed and not named."""
        rating, timestamp = self.rating_column, self.timestamp_column
        if rating is None and self.min_rating is not None:
            rating = Usual("rating")
        if timestamp is None and self.weighting == "recency":
            timestamp = Usual("timestamp")
        return ColumnNames(self.user_column, self.item_column, self.weight_column, rating, timestamp)

    def rows(self, source: Any, progress: Progress = silent) -> Rows | None:
        """The rows of a source that is a table; None for one of users and items alone."""
        reading = Reading(self.names, conditions_of(self.where), self.separator)
        source = _fetched(source)
        if _given(source, self.format, self.separator) is not None:
            return None
        progress("read", 0, 2, _named(source))
        return _rows(source, self.format, reading)

    def refined(self, interactions: Interactions, ranks: Summing = ALONE) -> Interactions:
        """What `core` leaves of interactions, as `weighting` weighs them; see `k_core` and `weighted` for `ranks`."""
        if self.core is not None:
            interactions = k_core(interactions, self.core, ranks)
        if self.weighting is not None:
            interactions = weighted(interactions, self.weighting, self.half_life, ranks)
        return interactions


def _interactions_of_given(source: Any, request: Request, progress: Progress) -> Interactions:
    """The interactions of a source of users and items alone; of one with a split, the training part."""
    given = _given(_fetched(source), request.format, request.separator)
    assert given is not None
    file, kind = given
    asked = {"min_rating": request.min_rating, "where": request.where, "separator": request.separator}
    _refuse(file, f"tables, and this is {kind}", **asked, **_column_names(request.names))
    if not _is_split(file, kind):
        return request.refined(read_lightgcn([file], progress)[0])
    _refuse(file, "data without a split, and this comes with one", core=request.core, weighting=request.weighting)
    return _given_parts(file, kind, progress)[0]


def load_split(
    source: Any,
    *,
    split: str | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    format: str | None = None,
    progress: Progress = silent,
    **reading: Any,
) -> SplitInteractions:
    """Read interactions as training, validation and test parts.

    A given split is kept. An .npz file has all three parts. A folder has train.txt and test.txt; of the interactions of
    train.txt the share `fractions[1] / (fractions[0] + fractions[1])`, drawn at random, becomes the validation part.
    Everything else is split here. A repeated pair counts once, with the sum of its weights and its earliest timestamp,
    so no pair is in two parts.

    Parameters
    ----------
    source, format, progress
        As in `load_interactions`.
    split : {"random", "leave-last-out", "temporal"}, optional
        How data without a split is split: `random_split` (the default), or by time, `leave_last_out` or
        `temporal_split`.
    seed : int
        Of the random choices.
    fractions : three numbers
        Shares of training, validation and test part; non-negative, and 1 in sum. "leave-last-out" has no use for them.
    **reading
        What else `load_interactions` takes.

    Raises
    ------
    InputError, MissingExtraError
        As in `load_interactions`; InputError also for other splits, fractions or seeds than described.
    """
    shares = check_fractions(fractions)
    check_seed(seed)
    if split is not None:
        check_choice("split", split, SPLITS)
    source = _fetched(source)
    given = _given(source, format, reading.get("separator"))
    if given is not None and _is_split(*given):
        file, kind = given
        _refuse(file, "data without a split, and this comes with one", split=split, **reading)
        return _given_split(_given_parts(file, kind, progress), shares, seed)
    if split in ("leave-last-out", "temporal") and reading.get("timestamp_column") is None:
        reading["timestamp_column"] = Usual("timestamp")
    interactions = merge_repeated(load_interactions(source, format=format, progress=progress, **reading))
    if split == "leave-last-out":
        return leave_last_out(interactions)
    if split == "temporal":
        return temporal_split(interactions, shares)
    return random_split(interactions, shares, seed)


def has_split(source: Any, format: str | None = None) -> bool:
    """Whether a source comes with a split: an .npz file, and a folder with train.txt and test.txt, do.

    Raises
    ------
    InputError
        If there is no such source, or its format is unknown.
    """
    given = _given(_fetched(source), format, None)
    return given is not None and _is_split(*given)


def _is_split(file: Path, kind: str) -> bool:
    return kind == "npz" or file.is_dir()


def _given_parts(file: Path, kind: str, progress: Progress) -> list[Interactions]:
    """The parts of a source with a split: training, (validation) and test."""
    if kind == "npz":
        split = read_npz(file)
        return [split.train, split.validation, split.test]
    return read_lightgcn(_folder_files(file), progress)


def _given_split(parts: list[Interactions], shares: tuple[float, float, float], seed: int) -> SplitInteractions:
    """The parts of a source with a split; where they are two, validation is drawn from training."""
    if len(parts) == 3:
        return SplitInteractions(*parts)
    if shares[0] + shares[1] == 0:
        raise InputError("fractions must leave a part of train.txt for training or validation, got (0, 0, 1)")
    validation = shares[1] / (shares[0] + shares[1])
    carved = random_split(parts[0], (1 - validation, validation, 0.0), seed)
    return SplitInteractions(carved.train, carved.validation, parts[1])


def _fetched(source: Any) -> Any:
    """A source, or where a public set lies that it is the name of."""
    return fetched(source) if isinstance(source, str) and source in SETS and not Path(source).exists() else source


def _rows(source: Any, format: str | None, reading: Reading) -> Rows:
    """The rows of a table."""
    if is_table(source):
        return frame_rows(source, reading)
    if source == movielens.NAME and not Path(source).exists():
        return movielens.movielens_100k_rows(reading)
    if not isinstance(source, (list, tuple)) and Path(source).is_dir() and format in (None, "movielens"):
        source = next((file for name in movielens.FILES if (file := Path(source, name)).is_file()), source)
        format = None
    return file_rows(source, format, reading)


def _given(source: Any, format: str | None, separator: str | None) -> tuple[Path, str] | None:
    """A file, or a folder with a split, of users and items alone, and its format; None for whatever is a table.

    InputError where a source is neither, or a path names nothing.
    """
    check_format(format)
    if is_table(source):
        return None
    if not is_path(source):
        got = "an empty list" if isinstance(source, (list, tuple)) and not source else type(source).__name__
        raise InputError(
            f"path must be a string, a path or a data frame, got {got} (BipartiteGraph.from_edges "
            "takes arrays of ids, from_scipy a sparse matrix, from_dense a dense one)"
        )
    if isinstance(source, (list, tuple)) or is_elsewhere(source):
        return None
    file = Path(source)
    if source == movielens.NAME and not file.exists():
        return None
    try:
        there = file.exists()
    except OSError as error:
        raise InputError(f"{shown(str(file))}: expected a file of interactions, but {error.strerror}") from error
    if not there:
        hint = suggestion(str(source), NAMES) or f" (or one of the names {', '.join(map(repr, NAMES))})"
        raise InputError(f"{file}: expected a file of interactions, and there is none{hint}")
    if file.is_dir():
        return _given_folder(file, format)
    kind = format or (OTHERS.get(file.suffix.lower()) if separator is None else None)
    return None if kind is None or kind in TABLES else (file, kind)


def _given_folder(folder: Path, format: str | None) -> tuple[Path, str] | None:
    """A folder of LightGCN is a split; any other, and one of MovieLens, is one of tables."""
    is_movielens = any((folder / name).is_file() for name in movielens.FILES)
    is_lightgcn = any((folder / name).is_file() for name in _LIGHTGCN_FILES)
    if format in TABLES or (format is None and (is_movielens or not is_lightgcn)):
        return None
    if format == "npz":
        raise InputError(f"{folder}: expected an npz file, got a folder")
    _folder_files(folder)
    return folder, "lightgcn"


def _folder_files(folder: Path) -> list[Path]:
    files = [folder / name for name in _LIGHTGCN_FILES]
    for file in files:
        if not file.is_file():
            others = ", ".join(movielens.FILES)
            raise InputError(
                f"{folder}: expected a folder with train.txt and test.txt, and {file.name} is missing "
                f"(nor is there any of {others})"
            )
    return files


def _column_names(names: ColumnNames) -> dict[str, str]:
    return {f"{role}_column": name for role, name in names.named.items()}


def _refuse(file: Path, rule: str, /, **asked: Any) -> None:
    """InputError for the first argument that was given and does not apply to this source."""
    for name, value in asked.items():
        if value is not None:
            raise InputError(f"{file}: {name} applies to {rule}, got {name}={value!r}")


def _named(source: Any) -> str:
    return Path(source).name if isinstance(source, (str, os.PathLike)) else type(source).__name__
