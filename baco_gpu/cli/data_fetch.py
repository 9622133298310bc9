"""baco data fetch: public sets by name."""

from __future__ import annotations

from typing import Annotated

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.errors import MissingExtraError


@expanded
def fetch(
    run: options.Printing,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The set to download; without a name, all that there are are listed.",
            autocompletion=completion.one_of("baco_gpu.data.fetch:SETS"),
        ),
    ] = None,
) -> None:
    """Download a public set, after telling its terms; every command then takes its name for DATA.

    The files are checked against the published checksums. An interrupted download goes on where it ended. They are kept
    in the folder that BACO_DATA_HOME names, or in baco_gpu among the user's caches.

    \b
    Examples:
      baco data fetch
      baco data fetch gowalla && baco compress gowalla --budget 0.25
    """
    from baco_gpu.data import fetch as sets

    if name is None:
        _list(run.json)
        return
    if name in sets.SETS and not sets.is_fetched(name):
        print_line(f"{name}: {sets.SETS[name].terms}", err=True)
    with ProgressDisplay(hidden=run.silent) as display:
        folder = sets.fetch(name, display.report)
    if run.json:
        print_json({"name": name, "folder": str(folder), "terms": sets.SETS[name].terms})
        return
    print_line(f"{name}: {folder}")


def _list(as_json: bool) -> None:
    """All sets, and which are there: unknown where the folder of sets is, for want of the extra that fetches them."""
    from baco_gpu.data import fetch as sets

    home, missing = None, None
    try:
        home = sets.data_home()
    except MissingExtraError as error:
        missing = error
    there = {key: None if home is None else sets.is_fetched(key) for key in sets.SETS}
    if as_json:
        print_json({key: {"about": each.about, "fetched": there[key]} for key, each in sets.SETS.items()})
        return
    words = {True: "yes", False: "no", None: "?"}
    table = [[key, words[there[key]], each.about] for key, each in sets.SETS.items()]
    print_table(["name", "fetched", "what"], table, title="public sets" if home is None else f"sets in {home}")
    if missing is not None:
        print_line(f"note: {missing}", err=True)
