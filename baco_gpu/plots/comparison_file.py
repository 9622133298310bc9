"""The table of a comparison, as `baco compare --out` wrote it, for pictures beside a result."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from baco_gpu.checks import suggestion
from baco_gpu.errors import InputError

_FILE = "comparison.csv"
_NAMES = ("model", "method")
_FIGURES = ("parameters", "parameters_full")
_BYTES = ("bytes", "bytes_full")


def read_comparison(path: str | os.PathLike[str], metric: str) -> list[dict[str, Any]]:
    """The rows of a comparison that have a figure of `metric`.

    Parameters
    ----------
    path : a folder that `baco compare --out` wrote, or the comparison.csv in it
    metric : str, such as "recall@20"

    Returns
    -------
    list of dict
        With model, method, parameters, parameters_full, the metric and its deviation, under `METRIC_sd`, and measure;
        with bytes and bytes_full where that is "bytes".

    Raises
    ------
    InputError
        If there is no such file, it is no table of a comparison, or it has no figures of this metric.
    """
    file = Path(path) / _FILE if Path(path).is_dir() else Path(path)
    figures = (*_FIGURES, metric, f"{metric}_sd")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or ())
            _check_columns(file, columns, metric)
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{file}: expected the table of a comparison, but it cannot be read ({why})") from error
    rows = []
    for number, line in enumerate(lines, start=2):
        if not line[metric]:  # its runs failed
            continue
        try:
            measure = line.get("measure") or "parameters"  # tables of before there was a choice do not say it
            wanted = (*figures, *_BYTES) if measure == "bytes" else figures
            names = {name: line[name] for name in _NAMES} | {"measure": measure}
            rows.append(names | {name: float(line[name]) for name in wanted})
        except (TypeError, ValueError) as error:
            raise InputError(f"{file}: expected numbers in line {number}, got something else ({error})") from error
    if not rows:
        raise InputError(f"{file}: expected a run with a {metric}, got none")
    return rows


def _check_columns(file: Path, columns: list[str], metric: str) -> None:
    missing = [name for name in (*_NAMES, *_FIGURES) if name not in columns]
    if missing:
        found = ", ".join(columns[:8]) or "nothing"
        raise InputError(f"{file}: expected a table that baco compare wrote, with {missing[0]!r}; it has {found}")
    if metric not in columns or f"{metric}_sd" not in columns:
        known = [name.removesuffix("_sd") for name in columns if name.endswith("_sd") and "@" in name]
        raise InputError(f"{file}: metric must be one of {', '.join(known)}, got {metric!r}{suggestion(metric, known)}")
