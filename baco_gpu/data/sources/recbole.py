"""The atomic files of RecBole: text with tabs whose header gives every column a name and a type, `user_id:token`."""

from __future__ import annotations

from dataclasses import replace

from baco_gpu.data.sources.delimited import TextRows
from baco_gpu.data.sources.files import Files
from baco_gpu.data.sources.formats import Format, Reading
from baco_gpu.data.sources.headers import ColumnNames, positions_of
from baco_gpu.data.sources.text_beginnings import beginning, first_rows
from baco_gpu.errors import InputError

_TYPES = ("token", "float", "token_seq", "float_seq")
_IDS = (("user", "user_id"), ("item", "item_id"))


def inter_rows(files: Files, reading: Reading) -> TextRows:
    """The rows of .inter files.

    A column is asked for by its name alone (`rating`) or with its type (`rating:float`). Users and items are the
    columns user_id and item_id unless named otherwise, and the tokens that `positions_of` takes where there are no such
    columns. A file whose header has no types is read as any other table.

    Raises
    ------
    InputError
        If ids are asked of a column that holds no tokens, or numbers of one that holds no floats; and as
        `read_delimited`.
    """
    file, names = files.members[0], reading.names
    sample, _ = first_rows(file, beginning(file), "\t")
    header = sample[0] if sample else []
    types = dict(cell.rpartition(":")[::2] for cell in header)
    if not header or not set(types.values()) <= set(_TYPES):
        return TextRows(files, reading, "\t")
    wanted = {role: name.rpartition(":")[0] if name in header else name for role, name in names.named.items()}
    for role, usual in _IDS:
        if types.get(usual) == "token" and usual not in wanted.values():
            wanted.setdefault(role, usual)
    known = {role: wanted[role] for role, _ in _IDS if role in wanted}
    free = [name for name, kind in types.items() if kind == "token" and name not in wanted.values()]
    if len(known) + len(free) < len(_IDS):
        raise InputError(f"{file}: expected two columns of type token, the columns are {', '.join(map(repr, header))}")
    if len(known) < len(_IDS):
        tokens = [*known.values(), *free]
        wanted |= {role: tokens[at] for role, at in positions_of(file, tokens, ColumnNames(**known)).items()}
    for role, name in wanted.items():
        expected = ("token",) if role in ("user", "item") else ("float", "token")
        if name in types and types[name] not in expected:
            raise InputError(f"{file}: {role}s must be a column of type {expected[0]}, got '{name}:{types[name]}'")
    full = {role: f"{name}:{types[name]}" if name in types else name for role, name in wanted.items()}
    return TextRows(files, replace(reading, names=ColumnNames(**full)), "\t")


RECBOLE = Format("recbole", (".inter",), inter_rows, compressible=True)
