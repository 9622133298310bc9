"""baco compress: from interactions to a file of co-cluster labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_pairs
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.settings_file import write_settings


@expanded
def compress(
    context: typer.Context,
    data: options.Data,
    source: options.Source,
    clustering: options.Clustering,
    run: options.Run,
    out: Annotated[Path | None, typer.Option(help="Write labels and settings to this .safetensors file.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Write the labels by raw id to this .parquet or .csv file (columns side, id, cluster, ...)."),
    ] = None,
) -> None:
    """Co-cluster interactions so that a codebook within the budget can stand for the embedding tables.

    Of data that comes with a split, the training part is clustered.

    \b
    Examples:
      baco compress clicks.parquet --budget 0.25 --out codes.safetensors
      baco compress movielens-100k --budget-rows 500 --json
    """
    estimator = clustering.estimator(run)
    options.check_output(out, ".safetensors")
    options.check_labels_output(labels)

    from baco_gpu.data.labels import write_labels
    from baco_gpu.graph.bipartite import BipartiteGraph

    with ProgressDisplay(hidden=run.silent) as display:
        started = time.perf_counter()
        graph = BipartiteGraph.from_interactions(source.interactions(data, run.seed, display.report))
        reading = time.perf_counter() - started
        result = estimator.fit(graph, progress=display.report).result_
    result.seconds["read"] = reading
    if out is not None:
        result.save(out)
    if labels is not None:
        write_labels(labels, {"user": result.users.to_frame(), "item": result.items.to_frame()})
    written = [file for file in (out, labels) if file is not None]
    if written:
        written.append(write_settings(context, written[0]))

    summary = result.summary()
    if run.json:
        print_json(summary)
        return
    shares = {
        "rows": f"{summary['codebook_rows']:,} of {result.table.full_rows:,}",
        "parameters": _share(summary["parameters_compressed"], summary["parameters_full"]),
        "bytes": _share(summary["bytes_compressed"], summary["bytes_full"]),
    }
    print_pairs(
        {
            "graph": f"{summary['num_users']:,} users, {summary['num_items']:,} items, {summary['num_edges']:,} edges",
            **shares,
            "user clusters": f"{summary['user_clusters']:,} (largest {summary['largest_user_cluster']:,})",
            "item clusters": f"{summary['item_clusters']:,} (largest {summary['largest_item_cluster']:,})",
            "secondary": f"{summary['secondary_users']:,} users, {summary['secondary_items']:,} items",
            "gamma": f"{summary['gamma']:.6g}",
            "objective": f"{summary['objective']:,.1f}",
            "seconds": ", ".join(f"{phase} {value:.3f}" for phase, value in summary["seconds"].items()),
            **({"written": ", ".join(map(str, written))} if written else {}),
        },
        title=f"co-clustering of {data}",
    )


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2%})" if whole else "0"
