"""baco compare: methods side by side on the same split, one table and one picture."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.settings_file import write_settings
from baco_gpu.errors import InputError


@expanded
def compare(
    context: typer.Context,
    data: options.Data,
    source: options.Source,
    clustering: options.Clustering,
    training: options.Training,
    run: options.Run,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, comma-separated: full, codebook (ours), or baselines.",
            autocompletion=completion.several_of(options.methods),
        ),
    ] = "full,random,codebook",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write comparison.json and comparison.png to this folder.")
    ] = None,
) -> None:
    """Train the same recommender over the tables of several methods and compare what they keep and cost.

    \b
    Example:
      baco compare movielens-100k --budget 0.25 --epochs 60 --out demo
    """
    estimator = clustering.estimator(run)
    settings = training.settings(run)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--methods must be different names, separated by commas, got {methods!r}")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"output {out}: expected a folder, got a file")

    from baco_gpu import experiment
    from baco_gpu.atomic import replacing
    from baco_gpu.plots.comparison import comparison_figure

    for name in names:
        experiment.check_names(method=name, model=training.model)
    rows: list[dict[str, Any]] = []
    with ProgressDisplay(hidden=run.silent) as display:
        split = source.parts(data, run.seed, display.report)
        for name in names:
            report = display.named(name)
            compression = experiment.compress(split, name, estimator, progress=report)
            outcome = experiment.run(
                split, compression, training.model, settings, num_layers=training.layers, progress=report
            )
            rows.append({**outcome.summary(), "curve": outcome.curve})

    comparison = {"data": data, "model": training.model, "seed": run.seed, "methods": rows}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "comparison.json") as temporary:
            temporary.write_text(json_module.dumps(comparison, indent=2))
        figure = comparison_figure(rows, title=f"{training.model} on {data}, seed {run.seed}")
        with replacing(out / "comparison.png") as temporary:
            figure.savefig(temporary, dpi=150)
        write_settings(context, out / "comparison.json")
    if run.json:
        print_json(comparison)
        return
    columns = ["method", "rows", "params", "bytes", "saved", "cluster\nseconds", "train\nseconds"]
    columns += ["recall\n@20", "ndcg\n@20"]
    print_table(columns, [_cells(row) for row in rows], title=f"{training.model} on {data}, seed {run.seed}")
    if out is not None:
        typer.echo(f"picture: {out / 'comparison.png'}")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["method"],
        f"{row['codebook_rows']:,}",
        f"{row['parameters']:,}",
        f"{row['bytes']:,}",
        f"{row['compression']:.1%}",
        f"{row['seconds_clustering']:.2f}",
        f"{row['seconds_training']:.1f}",
        f"{row['recall@20']:.4f}",
        f"{row['ndcg@20']:.4f}",
    ]
