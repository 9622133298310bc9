"""baco compress: from interactions to a file of co-cluster labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_pairs
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.launched import RANK_TIMEOUT, RankTimeout, launched
from baco_gpu.cli.settings_file import write_settings

if TYPE_CHECKING:
    from baco_gpu.clustering.backends.share import GraphShare
    from baco_gpu.distributed.torch_ranks import TorchRanks
    from baco_gpu.estimator.coclustering_result import CoclusteringResult


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
    rank_timeout: RankTimeout = RANK_TIMEOUT,
) -> None:
    """Co-cluster users and items within a budget of codebook rows.

    Of data that comes with a split, the training part is clustered. Where torchrun starts several processes, they
    cluster together, each with its share of the edges; the labels are the same, and the first one writes them.

    \b
    Examples:
      baco compress clicks.parquet --budget 0.25 --out codes.safetensors
      baco compress movielens-100k --budget-rows 500 --json
      torchrun --nproc-per-node 4 -m baco_gpu compress clicks.parquet --out codes.safetensors
    """
    options.check_output(out, ".safetensors")
    options.check_output(labels, is_table=True, others={"DATA": data})
    with launched(run.backend, rank_timeout) as ranks:
        if ranks is None:
            result = _clustered(data, source, clustering, run, None)
            written = _write(context, result, out, labels)
        else:
            first = ranks.rank == 0
            result = _clustered(data, source, clustering, run if first else replace(run, quiet=True), ranks)
            written = ranks.together(lambda: _write(context, result, out, labels) if first else [])
            if not first:
                return

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


def _clustered(
    data: str, source: options.Source, clustering: options.Clustering, run: options.Run, ranks: TorchRanks | None
) -> CoclusteringResult:
    """The result, of this process alone or of all of them."""
    estimator = clustering.estimator(run)

    from baco_gpu.graph.bipartite import BipartiteGraph
    from baco_gpu.stopwatch import Stopwatch

    with ProgressDisplay(hidden=run.silent) as display:
        watch = Stopwatch()
        graph: BipartiteGraph | GraphShare
        if ranks is None:
            graph = BipartiteGraph.from_interactions(source.interactions(data, run.seed, display.report))
        else:
            from baco_gpu.distributed.coclustering import agree_on
            from baco_gpu.distributed.reading import read_share, share_out

            agree_on({"command": "compress", **estimator.get_params()}, ranks)
            if source.split is None:
                graph = read_share(ranks, data, progress=display.report, **source.reading())
            else:
                graph = share_out(ranks, lambda: source.interactions(data, run.seed, display.report), display.report)
            estimator.set_params(process_group=ranks.group)
        reading = watch.seconds
        result: CoclusteringResult = estimator.fit(graph, progress=display.report).result_
    result.seconds["read"] = reading
    return result


def _write(context: typer.Context, result: CoclusteringResult, out: Path | None, labels: Path | None) -> list[Path]:
    """Write what was asked for, and the settings beside it; returns the files."""
    from baco_gpu.data.labels import write_labels

    if out is not None:
        result.save(out)
    if labels is not None:
        write_labels(labels, {"user": result.users.to_frame(), "item": result.items.to_frame()})
    written = [file for file in (out, labels) if file is not None]
    if written:
        written.append(write_settings(context, written[0]))
    return written


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2%})" if whole else "0"
