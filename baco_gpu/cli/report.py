"""baco report: a file of co-cluster labels as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.item_titles import Names, item_titles


@expanded
def report(
    codes: options.Codes,
    source: options.Source,
    run: options.Configured,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html", help="Write the page here.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="The interactions that were clustered, for the picture of their matrix and the share inside.",
            show_default="none",
            autocompletion=completion.data_sets,
        ),
    ] = None,
    names: Names = None,
    largest: Annotated[int, typer.Option(min=0, help="How many of the largest clusters to list.")] = 10,
    members: Annotated[int, typer.Option(min=0, help="How many members of each to name.")] = 8,
) -> None:
    """Write a clustering as one HTML page with figures and pictures.

    DATA is read as `baco compress` read it: give the same --split, --seed and filters.

    \b
    Examples:
      baco report codes.safetensors -o report.html
      baco report codes.safetensors --data clicks.parquet -o report.html
      baco report codes.safetensors --data movielens-100k --names movielens-100k -o report.html
    """
    options.check_output(out, ".html")

    from baco_gpu.estimator.coclustering_result import CoclusteringResult
    from baco_gpu.graph.bipartite import BipartiteGraph
    from baco_gpu.report import write_report

    result = CoclusteringResult.load(codes)
    graph = None
    if data is not None:
        with ProgressDisplay(hidden=run.silent) as display:
            graph = BipartiteGraph.from_interactions(source.interactions(data, run.seed, display.report))
    titles = item_titles(names)
    write_report(out, result, graph, title=codes.name, largest=largest, members=members, names=titles)
    if run.json:
        print_json({"written": str(out)})
    else:
        print_line(f"written: {out}")
