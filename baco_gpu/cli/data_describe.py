"""baco data describe: what a set of interactions is like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_pairs, print_table
from baco_gpu.cli.groups import expanded


@expanded
def describe(
    data: options.Data,
    source: options.Source,
    run: options.Configured,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw how many users and items have how many partners.")
    ] = None,
) -> None:
    """Count users, items, interactions, repeated pairs and connected parts; tell columns, density and degrees.

    Of data that comes with a split (and of data with --split) this is the training part.

    \b
    Examples:
      baco data describe clicks.parquet --core 5
      baco data describe movielens-100k --min-rating 4 --plot degrees.png
    """
    options.check_output(plot, ".png")

    from baco_gpu.atomic import replacing
    from baco_gpu.data import description

    with ProgressDisplay(hidden=run.silent) as display:
        interactions = source.interactions(data, run.seed, display.report)
    figures = description.describe(interactions)
    if plot is not None:
        from baco_gpu.plots.degrees import degree_figure

        figure = degree_figure(*description.degrees_of(interactions), title=f"degrees of {data}")
        with replacing(plot) as temporary:
            figure.savefig(temporary, dpi=150)
    if run.json:
        print_json(figures)
        return
    degrees = {side: figures[f"{side}_degrees"] for side in ("user", "item")}
    print_pairs(
        {
            **({"columns": _columns(figures)} if figures["columns"] else {}),
            "users": _count(figures, "users"),
            "items": _count(figures, "items"),
            "interactions": f"{figures['num_interactions']:,} ({figures['repeated']:,} repeat a pair)",
            "density": f"{figures['density']:.3g}",
            "components": f"{figures['components']:,} ({figures['largest_component']:.1%} of the nodes in the largest)",
            **{name: _range(figures[name]) for name in ("weights", "timestamps") if figures[name] is not None},
            **({"picture": str(plot)} if plot else {}),
        },
        title=str(data),
    )
    columns = ["degrees", *degrees["user"]]
    print_table(columns, [[f"{side}s", *map(_shown, values.values())] for side, values in degrees.items()], "")


def _count(figures: dict[str, Any], side: str) -> str:
    without = figures[f"{side}_without"]
    return f"{figures[f'num_{side}']:,}" + (f" ({without:,} without an interaction)" if without else "")


def _columns(figures: dict[str, Any]) -> str:
    return ", ".join(f"{role}s from {name!r}" for role, name in figures["columns"].items())


def _range(values: dict[str, float]) -> str:
    return f"{values['min']:.10g} to {values['max']:.10g}"


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
