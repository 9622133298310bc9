"""baco inspect: what a file of co-cluster labels holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import print_json, print_pairs, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.item_titles import Names, item_titles


@expanded
def inspect(
    codes: options.Codes,
    largest: Annotated[int, typer.Option(min=0, help="How many of the largest clusters to list.")] = 5,
    members: Annotated[int, typer.Option(min=0, help="How many members of each to name.")] = 5,
    names: Names = None,
    json: options.Json = False,
) -> None:
    """Show sizes, balance, volumes and the largest clusters of a clustering, by raw id.

    \b
    Example:
      baco inspect codes.safetensors --largest 10
    """
    from baco_gpu.clustering.inspect.statistics import describe
    from baco_gpu.estimator.coclustering_result import CoclusteringResult

    result = CoclusteringResult.load(codes)
    titles = item_titles(names)
    description = describe(result, largest=largest, members=members, names=titles)
    if json:
        print_json(description)
        return
    summary = description["summary"]
    print_pairs({name: _shown(value) for name, value in summary.items()}, title=str(codes))
    balance = description["balance"]
    columns = ["side", *(name.replace("_", " ") for name in next(iter(balance.values())))]
    print_table(columns, [[side, *map(_shown, values.values())] for side, values in balance.items()], "balance")
    if description["largest"]:
        print_table(
            ["cluster", "users", "items", "user volume", "item volume", "some users", "some items"],
            [
                [
                    str(row["cluster"]),
                    _shown(row["users"]),
                    _shown(row["items"]),
                    _shown(row["user_volume"]),
                    _shown(row["item_volume"]),
                    ", ".join(map(str, row["some_users"])),
                    ", ".join(map(str, row["some_items"])),
                ]
                for row in description["largest"]
            ],
            "largest clusters",
        )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
