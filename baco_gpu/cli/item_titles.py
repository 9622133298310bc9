"""The option `--names`: items by what they are called, where a set of interactions says it."""

from __future__ import annotations

from typing import Annotated

import typer

from baco_gpu.cli import completion
from baco_gpu.errors import InputError

Names = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Show items by their names, from movielens-100k, a fetched set or a folder of MovieLens.",
        show_default="none",
        autocompletion=completion.data_sets,
    ),
]


def item_titles(source: str | None) -> dict[int, str] | None:
    """Names by raw id, None where none were asked for; InputError where a set has none."""
    if source is None:
        return None
    from baco_gpu.data.names import item_names

    names = item_names(source)
    if not names:
        raise InputError(f"--names: {source}: expected names of items beside the interactions, and there are none")
    return names
