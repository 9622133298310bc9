"""The files of ratings that MovieLens publishes."""

from __future__ import annotations

from dataclasses import replace

from baco_gpu.data.sources.delimited import TextRows
from baco_gpu.data.sources.files import Files
from baco_gpu.data.sources.formats import Format, Reading
from baco_gpu.data.sources.headers import ColumnNames
from baco_gpu.data.sources.text_beginnings import beginning
from baco_gpu.errors import InputError

COLUMNS = ("user", "item", "rating", "timestamp")


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


RATINGS = Format("movielens", (".dat", ".data"), rating_rows, compressible=True)
