"""baco compare: methods side by side on the same split, one table and one picture."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_table
from baco_gpu.errors import InputError


def compare(
    context: typer.Context,
    data: options.Data,
    methods: Annotated[str, typer.Option(help="Methods, comma-separated: full, codebook (ours), or baselines.")] = (
        "full,random,codebook"
    ),
    model: options.Model = "lightgcn",
    budget: options.BudgetRatio = None,
    budget_rows: options.BudgetRows = None,
    budget_measure: options.BudgetMeasure = "parameters",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write comparison.json and comparison.png to this folder.")
    ] = None,
    gamma: options.Gamma = None,
    weights: options.Weights = None,
    solver: options.Solver = "multilevel",
    secondary: options.Secondary = "users",
    embedding_dim: options.EmbeddingDim = 64,
    layers: options.Layers = 2,
    epochs: options.Epochs = 60,
    batch_size: options.BatchSize = 2048,
    learning_rate: options.LearningRate = 2e-3,
    weight_decay: options.WeightDecay = 1e-4,
    patience: options.Patience = 10,
    user_column: options.UserColumn = None,
    item_column: options.ItemColumn = None,
    weight_column: options.WeightColumn = None,
    seed: options.Seed = 0,
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train the same recommender over the tables of several methods and compare what they keep and cost.

    Example: baco compare movielens-100k --budget 0.25 --epochs 60 --out demo
    """
    estimator = options.clustering_of(context.params)
    settings = options.training_of(context.params)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--methods must be different names, separated by commas, got {methods!r}")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"output {out}: expected a folder, got a file")

    from baco_gpu import experiment
    from baco_gpu.atomic import replacing
    from baco_gpu.plots.comparison import comparison_figure

    for name in names:
        experiment.check_names(method=name, model=model)
    rows: list[dict[str, Any]] = []
    with ProgressDisplay(hidden=quiet or json) as display:
        split = options.split_of(context.params, display.report)
        for name in names:
            report = display.named(name)
            compression = experiment.compress(split, name, estimator, progress=report)
            outcome = experiment.run(split, compression, model, settings, num_layers=layers, progress=report)
            rows.append({**outcome.summary(), "curve": outcome.curve})

    comparison = {"data": data, "model": model, "seed": seed, "methods": rows}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "comparison.json") as temporary:
            temporary.write_text(json_module.dumps(comparison, indent=2))
        figure = comparison_figure(rows, title=f"{model} on {data}, seed {seed}")
        with replacing(out / "comparison.png") as temporary:
            figure.savefig(temporary, dpi=150)
    if json:
        print_json(comparison)
        return
    columns = ["method", "rows", "params", "bytes", "saved", "cluster\nseconds", "train\nseconds"]
    columns += ["recall\n@20", "ndcg\n@20"]
    print_table(columns, [_cells(row) for row in rows], title=f"{model} on {data}, seed {seed}")
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
