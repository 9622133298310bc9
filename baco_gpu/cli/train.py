"""baco train: from interactions to a trained, compressed recommender."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_pairs


def train(
    context: typer.Context,
    data: options.Data,
    model: options.Model = "lightgcn",
    method: Annotated[str, typer.Option(help="Tables: codebook (ours), full, or a baseline.")] = "codebook",
    budget: options.BudgetRatio = None,
    budget_rows: options.BudgetRows = None,
    budget_measure: options.BudgetMeasure = "parameters",
    codes: Annotated[
        Path | None, typer.Option(help="Use the labels of this file (baco compress --out) instead of clustering.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the trained codebooks, codes and figures to this .safetensors file.")
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
    """Train a recommender over compressed tables (or the full ones) and rank the test items.

    Data that comes with a split keeps it; anything else is split 80/10/10 at random.

    Examples: baco train movielens-100k --budget 0.25 --epochs 30 --out model.safetensors;
    baco train clicks.npz --model mf --method full --json
    """
    estimator = options.clustering_of(context.params)
    settings = options.training_of(context.params)
    options.check_output(out)

    from baco_gpu import experiment
    from baco_gpu.clustering.result import CoclusteringResult

    experiment.check_names(method=method, model=model)
    result = None if codes is None else CoclusteringResult.load(codes)
    with ProgressDisplay(hidden=quiet or json) as display:
        split = options.split_of(context.params, display.report)
        compression = experiment.compress(split, method, estimator, result=result, progress=display.report)
        outcome = experiment.run(split, compression, model, settings, num_layers=layers, progress=display.report)
    if out is not None:
        experiment.save_model(outcome, out)

    summary = outcome.summary()
    if json:
        print_json(summary)
        return
    print_pairs(
        {
            "rows": f"{summary['codebook_rows']:,} of {split.num_users + split.num_items:,}",
            "parameters": f"{summary['parameters']:,} of {summary['parameters_full']:,} "
            f"({1 - summary['compression']:.2%})",
            "epochs": f"{summary['epochs']} (best: {summary['best_epoch']})",
            **{name: f"{value:.4f}" for name, value in outcome.training.test.items()},
            "seconds": f"clustering {summary['seconds_clustering']:.2f}, training {summary['seconds_training']:.1f}, "
            f"evaluation {summary['seconds_evaluation']:.1f}",
            **({"written": str(out)} if out else {}),
        },
        title=f"{model} on {data}, method {method}",
    )
