"""Reading interactions from files; the format follows from the suffix or is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from baco_gpu.data.columns import factorize
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.npz import read_npz
from baco_gpu.data.splits import random_split
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent


def load_interactions(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    weight_column: str | None = None,
    progress: Progress = silent,
) -> Interactions:
    file = Path(path)
    if (format or file.suffix.lstrip(".")) == "npz":
        return read_npz(file).train
    import pandas as pd

    table: Any = pd.read_csv(file, sep="\t" if file.suffix == ".tsv" else ",")
    if len(table.columns) < 2:
        raise InputError(f"{path}: expected at least two columns, got one")
    users, user_vocabulary = factorize(table[user_column or table.columns[0]])
    items, item_vocabulary = factorize(table[item_column or table.columns[1]])
    weights = None if weight_column is None else table[weight_column].to_numpy("float64")
    return Interactions(
        users, items, len(user_vocabulary), len(item_vocabulary), weights, user_vocabulary, item_vocabulary
    )


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
    file = Path(path)
    if (format or file.suffix.lstrip(".")) == "npz":
        return read_npz(file)
    interactions = load_interactions(
        path,
        format=format,
        user_column=user_column,
        item_column=item_column,
        weight_column=weight_column,
        progress=progress,
    )
    return random_split(interactions, fractions, seed)
