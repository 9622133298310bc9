"""baco data fetch: public sets by name."""

from __future__ import annotations

from typing import Annotated

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_table
from baco_gpu.cli.groups import expanded


def _names() -> list[str]:
    from baco_gpu.data.fetch import SETS

    return list(SETS)


@expanded
def fetch(
    run: options.Run,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The set to download; without a name, all that there are are listed.",
            autocompletion=completion.one_of(_names),
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
        rows = {key: {"about": each.about, "fetched": sets.is_fetched(key)} for key, each in sets.SETS.items()}
        if run.json:
            print_json(rows)
            return
        table = [[key, "yes" if row["fetched"] else "no", str(row["about"])] for key, row in rows.items()]
        print_table(["name", "fetched", "what"], table, title=f"sets in {sets.data_home()}")
        return
    if name in sets.SETS and not sets.is_fetched(name):
        typer.echo(f"{name}: {sets.SETS[name].terms}", err=True)
    with ProgressDisplay(hidden=run.silent) as display:
        folder = sets.fetch(name, display.report)
    if run.json:
        print_json({"name": name, "folder": str(folder), "terms": sets.SETS[name].terms})
        return
    typer.echo(f"{name}: {folder}")
