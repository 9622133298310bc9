"""Options that several commands share, and the objects they describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baco_gpu.errors import InputError

if TYPE_CHECKING:
    from baco_gpu.clustering.estimator import BalancedCoclustering
    from baco_gpu.data.interactions import SplitInteractions
    from baco_gpu.progress import Progress
    from baco_gpu.training.settings import TrainingSettings

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Interactions: a .parquet, .csv, .tsv, .txt (LightGCN) or .npz file, a folder with train.txt and "
        "test.txt, or movielens-100k.",
    ),
]
UserColumn = Annotated[str | None, typer.Option("--user-column", help="Column of user ids. [default: the first]")]
ItemColumn = Annotated[str | None, typer.Option("--item-column", help="Column of item ids. [default: the second]")]
WeightColumn = Annotated[str | None, typer.Option("--weight-column", help="Column of edge weights. [default: none]")]
BudgetRatio = Annotated[
    float | None,
    typer.Option("--budget", metavar="RATIO", help="Share of the full table, in (0, 1]. [default: 0.25]"),
]
BudgetRows = Annotated[
    int | None, typer.Option("--budget-rows", metavar="N", help="Number of codebook rows, instead of --budget.")
]
BudgetMeasure = Annotated[str, typer.Option(help="What --budget is a share of: parameters or bytes.")]
Gamma = Annotated[
    float | None, typer.Option(help="Resolution: higher means smaller, more even clusters. [default: chosen]")
]
Weights = Annotated[
    str | None, typer.Option(help="Node weights: degree, sqrt, log, unit or paper. [default: the solver's]")
]
Solver = Annotated[str, typer.Option(help="multilevel (meets the budget to the row) or paper (published sweeps).")]
Secondary = Annotated[str, typer.Option(help="Sides with secondary clusters: users, items, both or none.")]
EmbeddingDim = Annotated[int, typer.Option("--embedding-dim", "--dim", help="Embedding dimension.")]
Model = Annotated[str, typer.Option(help="Recommender: lightgcn or mf.")]
Layers = Annotated[int, typer.Option(help="Propagation layers of LightGCN.")]
Epochs = Annotated[int, typer.Option(help="Epochs at most.")]
BatchSize = Annotated[int, typer.Option(help="Interactions a training step.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", "--lr", help="Adam's learning rate.")]
WeightDecay = Annotated[float, typer.Option(help="Factor of the L2 term on a batch's embeddings.")]
Patience = Annotated[int, typer.Option(help="Stop after so many epochs without a better validation recall@20.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Backend = Annotated[str, typer.Option(help="Where clustering runs: auto, cpu or cuda.")]
Device = Annotated[str, typer.Option(help="Where training runs, a torch device: cpu, cuda, cuda:1, ...")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def clustering_of(params: Mapping[str, Any]) -> BalancedCoclustering:
    """The estimator that a command's parameters describe, all checked.

    Raises
    ------
    InputError
        If an option is out of its range, or both kinds of budget are given.
    """
    from baco_gpu.clustering.estimator import BalancedCoclustering

    budget, rows, solver = params["budget"], params["budget_rows"], params["solver"]
    if budget is not None and rows is not None:
        raise InputError(f"give --budget or --budget-rows, got both ({budget:g} and {rows})")
    chosen = budget if rows is None else rows
    if chosen is None and not (solver == "paper" and params["gamma"] is not None):
        chosen = 0.25
    passed = ("gamma", "weights", "solver", "secondary", "backend", "budget_measure", "embedding_dim")
    estimator = BalancedCoclustering(
        budget=chosen, random_state=params["seed"], **{name: params[name] for name in passed}
    )
    estimator.check_parameters()
    return estimator


def training_of(params: Mapping[str, Any]) -> TrainingSettings:
    """The training settings that a command's parameters describe; InputError for values out of range."""
    from baco_gpu.training.settings import TrainingSettings

    names = ("epochs", "batch_size", "learning_rate", "weight_decay", "patience", "seed", "device")
    return TrainingSettings(**{name: params[name] for name in names})


def columns_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The names of columns among a command's parameters."""
    return {name: params[name] for name in ("user_column", "item_column", "weight_column")}


def split_of(params: Mapping[str, Any], progress: Progress) -> SplitInteractions:
    """The interactions of DATA in three parts; InputError where they cannot train or test anything."""
    from baco_gpu.data.readers import load_split

    data = params["data"]
    split = load_split(data, seed=params["seed"], **columns_of(params), progress=progress)
    for name in ("train", "validation", "test"):
        if not len(getattr(split, name)):
            raise InputError(f"{data}: expected interactions in the {name} part, got none")
    return split


def check_output(path: Path | None) -> None:
    """Raise InputError unless a file can be made at `path`: found out before the work, not after it."""
    if path is not None:
        if path.is_dir():
            raise InputError(f"output {path}: expected a file name, got a folder")
        if not path.parent.is_dir():
            raise InputError(f"output {path}: the folder {path.parent} does not exist")


def check_labels_output(path: Path | None) -> None:
    """As `check_output`, for a file of labels."""
    from baco_gpu.data.labels import check_labels_path

    if path is not None:
        check_labels_path(path)
    check_output(path)
