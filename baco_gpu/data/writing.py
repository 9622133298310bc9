"""Writing interactions in the formats that they are read from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.atomic import check_writable, replacing
from baco_gpu.checks import check_path
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".parquet": None, ".feather": None}
SUFFIXES = (*_TABLES, ".txt", ".npz")
_ROWS_AT_ONCE = 1 << 20
_PARTS = {"train": "train", "validation": "val", "test": "test"}  # their names in an .npz file


def check_target(path: str | os.PathLike[str], *, has_split: bool) -> None:
    """Raise InputError unless interactions, with or without a split, can be written under this name.

    A name without a suffix is that of a folder.
    """
    target = check_path("path", path)
    if target.suffix not in (*SUFFIXES, ""):
        known = ", ".join(SUFFIXES)
        raise InputError(f"{target}: expected a name that ends in one of {known}, or a folder, got {target.suffix!r}")
    if target.suffix in (".npz", "") and not has_split:
        raise InputError(f"{target}: an .npz file and a folder hold a split, and these interactions have none")
    if target.suffix == ".txt" and has_split:
        raise InputError(f"{target}: a .txt file holds no split; name a folder, for train.txt and test.txt")
    if target.is_dir() != (target.suffix == "") and target.exists():
        kind = "folder" if target.is_dir() else "file"
        raise InputError(f"{target}: expected a {'file' if kind == 'folder' else 'folder'} to write, got a {kind}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    check_writable(target / "train.txt" if target.is_dir() else target)


def write_interactions(path: str | os.PathLike[str], interactions: Interactions | SplitInteractions) -> list[str]:
    """Write interactions under a name whose suffix says the format; each file whole or not at all.

    ===================  =============================================================================================
    .csv, .tsv           a header and one interaction a line: user, item, weight, timestamp, and part (train, ...) of a
                         split, as far as there are any
    .parquet, .feather   the same as columns
    .inter               the same with the header of RecBole: user_id:token, item_id:token, ...
    .txt                 LightGCN's lines of a user and its items
    a folder             LightGCN's train.txt (with the validation part, as its readers expect) and test.txt
    .npz                 a split with its sizes and vocabularies
    ===================  =============================================================================================

    Returns
    -------
    list of str
        What the format could not hold, a sentence each.

    Raises
    ------
    InputError
        If the suffix is none of these, or a format with a split is asked for without one (or the other way round).
    """
    target = check_path("path", path)
    has_split = isinstance(interactions, SplitInteractions)
    check_target(target, has_split=has_split)
    if isinstance(interactions, SplitInteractions):
        parts = dict(zip(_PARTS, interactions.parts, strict=True))
    else:
        parts = {"": interactions}
    first = next(iter(parts.values()))
    if target.suffix in _TABLES:
        table = _table(parts, typed=target.suffix == ".inter")
        with replacing(target) as temporary:
            _write_table(temporary, table, _TABLES[target.suffix])
        return []
    if target.suffix == ".npz":
        with replacing(target) as temporary:
            _write_npz(temporary, parts)
        return _lost(first, "an .npz file")
    if has_split:
        target.mkdir(exist_ok=True)
        files = {
            target / "train.txt": [parts["train"], parts["validation"]],
            target / "test.txt": [parts["test"]],
        }
    else:
        files = {target: [first]}
    for file, content in files.items():
        with replacing(file) as temporary:
            _write_lines(temporary, content)
    return _lost(first, "LightGCN's text") + _numbered(first)


def _table(parts: Mapping[str, Interactions], *, typed: bool) -> pa.Table:
    """All interactions as an Arrow table of raw ids; parts with a name say it in a column."""
    import pyarrow as pa

    tables = []
    for name, part in parts.items():
        columns = {
            "user_id:token" if typed else "user": _raw(part.users, part.user_vocabulary),
            "item_id:token" if typed else "item": _raw(part.items, part.item_vocabulary),
        }
        for column, values in (("weight", part.weights), ("timestamp", part.timestamps)):
            if values is not None:
                columns[f"{column}:float" if typed else column] = pa.array(values)
        if name:
            columns["part:token" if typed else "part"] = pa.array([name] * len(part), pa.string())
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _raw(codes: np.ndarray, vocabulary: Vocabulary | None) -> pa.Array:
    import pyarrow as pa

    return pa.array(codes) if vocabulary is None else vocabulary.to_arrow(codes)


def _write_table(path: Path, table: pa.Table, delimiter: str | None) -> None:
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet

    if delimiter == "\t":
        _write_tabs(path, table)
    elif delimiter is not None:
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter=delimiter, quoting_header="none"))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path)


def _write_tabs(path: Path, table: pa.Table) -> None:
    """Text with tabs between the cells, which nothing quotes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with path.open("wb") as stream:
        stream.write(("\t".join(table.column_names) + "\n").encode())
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            cells = [column.cast(pa.large_string()) for column in batch.columns]
            for name, column in zip(table.column_names, cells, strict=True):
                broken = pc.match_substring_regex(column, r"[\t\r\n]")
                if pc.any(broken).as_py():
                    cell = column.filter(broken)[0].as_py()
                    raise InputError(
                        f"column {name!r}: text with tabs holds no tabs and line breaks in its cells, got {cell!r}"
                    )
            tab, line_end, nothing = (pa.scalar(text, pa.large_string()) for text in ("\t", "\n", ""))
            lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*cells, tab), nothing, line_end)
            stream.write(memoryview(lines.buffers()[2])[: pc.sum(pc.binary_length(lines)).as_py()])


def _write_npz(path: Path, parts: Mapping[str, Interactions]) -> None:
    train = parts["train"]
    arrays: dict[str, Any] = {_PARTS[name]: np.stack([part.users, part.items]) for name, part in parts.items()}
    arrays |= {"num_users": train.num_users, "num_items": train.num_items}
    for side, vocabulary in (("users", train.user_vocabulary), ("items", train.item_vocabulary)):
        if vocabulary is not None:
            arrays |= {f"{side}.{name}": array for name, array in vocabulary.to_arrays().items()}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _write_lines(path: Path, parts: list[Interactions]) -> None:
    """LightGCN's text: a line for every user, those without items too."""
    first = parts[0]
    users, items = (np.concatenate([getattr(part, side) for part in parts]) for side in ("users", "items"))
    order = np.argsort(users, kind="stable")
    bounds = np.cumsum(np.bincount(users, minlength=first.num_users))
    lists = np.split(_numbers(items, first.item_vocabulary)[order], bounds[:-1])
    names = _numbers(np.arange(first.num_users), first.user_vocabulary)
    with path.open("w", encoding="ascii") as stream:
        for user, own in zip(names.tolist(), lists, strict=True):
            stream.write(" ".join(map(str, [user, *own.tolist()])) + "\n")


def _numbers(codes: np.ndarray, vocabulary: Vocabulary | None) -> np.ndarray:
    return vocabulary.decode(codes) if vocabulary is not None and vocabulary.is_integer else codes


def _lost(first: Interactions, what: str) -> list[str]:
    names = ("weights", "timestamps")
    return [f"{what} holds no {name}: they are left out" for name in names if getattr(first, name) is not None]


def _numbered(first: Interactions) -> list[str]:
    sides = {"user": first.user_vocabulary, "item": first.item_vocabulary}
    return [
        f"LightGCN's text holds numbers, and the {side} ids are strings: their ranks in ascending order stand for them"
        for side, vocabulary in sides.items()
        if vocabulary is not None and not vocabulary.is_integer
    ]
