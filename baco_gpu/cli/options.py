"""Options that several commands share, in groups (see `baco_gpu.cli.groups`), and the objects they describe."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from baco_gpu.atomic import check_writable
from baco_gpu.budget import SIDES
from baco_gpu.cli import completion
from baco_gpu.cli.settings_file import load_settings
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    from baco_gpu.data.interactions import Interactions, SplitInteractions
    from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
    from baco_gpu.progress import Progress
    from baco_gpu.training.settings import TrainingSettings


def choice(text: str, choices: str, **more: Any) -> Any:
    """An option that takes one of `choices`, "module:NAME", and completes to them."""
    return typer.Option(help=text, autocompletion=completion.one_of(choices), **more)


def share(text: str) -> float:
    """A share of the full table, as 0.25 or 25%; ValueError for anything else."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def share_or_rows(text: str) -> float | int:
    """A share of the full table, or a number of codebook rows, which is an integer; ValueError for anything else."""
    try:
        return int(text)
    except ValueError:
        return share(text)


def by_side(number: Callable[[str], float | int], noun: str) -> Callable[[Any], Any]:
    """What reads a number, or one each for users and items: "users=0.2,items=0.5"."""

    def one(text: Any) -> float | int:
        try:
            return number(str(text))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no {noun}, and not one each as in users=1,items=1.") from None

    def read(value: Any) -> Any:
        if isinstance(value, dict):  # read before, from a file of settings
            return value
        if "=" not in str(value):
            return one(value)
        pairs = [[part.strip() for part in word.partition("=")[::2]] for word in words(value)]
        if sorted(name for name, _ in pairs) != sorted(SIDES):
            raise typer.BadParameter(f"expected users=..,items=.., got {value!r}.")
        given = dict(pairs)
        return {side: one(given[side]) for side in SIDES}

    return read


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Interactions: a table (.parquet, .feather, .csv, .tsv, .jsonl), one interaction a row, in columns whose "
        "names say user and item (CustomerID, StockCode, ...; or see --user-column); a folder or a 'pattern*' of such, "
        "here or at an address (s3://...); RecBole's .inter, MovieLens's ratings, "
        "LightGCN's .txt or a folder with train.txt and test.txt, an .npz with a split, or a name: "
        "movielens-100k, or one that baco data fetch lists.",
        autocompletion=completion.data_sets,
    ),
]

Codes = Annotated[
    Path,
    typer.Argument(
        metavar="CODES",
        help="A file that `baco compress --out` wrote.",
        autocompletion=completion.files_of(".safetensors"),
    ),
]


Backend = Annotated[
    str, choice("Where clustering runs: auto, cpu, cuda or cuda:1.", "baco_gpu.clustering.backends:NAMES")
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


@dataclass(frozen=True)
class Printing:
    """What a command prints."""

    panel: ClassVar[str] = "Running and printing"

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False
    json: Json = False

    @property
    def silent(self) -> bool:
        """Whether progress is hidden."""
        return self.quiet or self.json


@dataclass(frozen=True)
class Configured(Printing):
    """The same of a command that reads interactions."""

    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0
    config: Annotated[
        Path | None,
        typer.Option(
            callback=load_settings,
            is_eager=True,
            metavar="FILE.yml",
            help="Take settings from this YAML file, whose keys are option names; the command line comes first.",
            autocompletion=completion.files_of(".yml", ".yaml"),
        ),
    ] = None


@dataclass(frozen=True)
class Run(Configured):
    """The same of a command that clusters."""

    backend: Backend = "auto"


@dataclass(frozen=True)
class Source:
    """How DATA is read."""

    panel: ClassVar[str] = "Data"

    where: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN>=VALUE,...",
            help="Only rows that fulfil all of these (=, !=, <, <=, >, >=); of folders such as dt=2026-01-01: "
            "dt>=2026-01-01.",
        ),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(metavar="LETTER", help="Separator of cells in text.", show_default="by suffix and content"),
    ] = None
    user_column: Annotated[str | None, typer.Option(help="Column of user ids.", show_default="by its name")] = None
    item_column: Annotated[str | None, typer.Option(help="Column of item ids.", show_default="by its name")] = None
    weight_column: Annotated[str | None, typer.Option(help="Column of edge weights.", show_default="none")] = None
    rating_column: Annotated[
        str | None,
        typer.Option(help="Column of ratings, for --min-rating.", show_default="by its name"),
    ] = None
    timestamp_column: Annotated[
        str | None,
        typer.Option(help="Column of timestamps, where they are needed.", show_default="by its name"),
    ] = None
    min_rating: Annotated[float | None, typer.Option(help="Only interactions of at least this rating count.")] = None
    core: Annotated[
        int | None, typer.Option(metavar="K", help="Leave out users and items with fewer than K partners, repeatedly.")
    ] = None
    weighting: Annotated[
        str | None,
        choice(
            "What a pair weighs: once (1), counts (how often it appears) or recency (less, the older).",
            "baco_gpu.data.weighting:WEIGHTINGS",
            show_default="as read",
        ),
    ] = None
    half_life: Annotated[
        float | None,
        typer.Option(help="Age that halves a weight, for recency: in the unit of the timestamps, seconds for dates."),
    ] = None
    split: Annotated[
        str | None,
        choice(
            "How data without a split is split: random, leave-last-out or temporal (compress then takes the "
            "training part).",
            "baco_gpu.data.readers:SPLITS",
        ),
    ] = None

    def interactions(self, data: str, seed: int, progress: Progress) -> Interactions:
        """The interactions of DATA; of its split, if one was asked for, the training part."""
        if self.split is not None:
            return self.parts(data, seed, progress).train
        from baco_gpu.data.readers import load_interactions

        return load_interactions(data, progress=progress, **self.reading())

    def parts(self, data: str, seed: int, progress: Progress) -> SplitInteractions:
        """The interactions of DATA in three parts; InputError where they cannot train or test anything."""
        from baco_gpu.data.readers import load_split

        split = load_split(data, split=self.split, seed=seed, progress=progress, **self.reading())
        for name in ("train", "validation", "test"):
            if not len(getattr(split, name)):
                raise InputError(f"{data}: expected interactions in the {name} part, got none")
        return split

    def reading(self) -> dict[str, Any]:
        """Keywords of `load_interactions`."""
        reading = {name: value for name, value in vars(self).items() if name != "split"}
        return reading if self.where is None else reading | {"where": words(self.where)}


@dataclass(frozen=True)
class Clustering:
    """How to cluster, and within which budget."""

    panel: ClassVar[str] = "Clustering"

    budget: Annotated[
        Any,
        typer.Option(
            "--budget",
            metavar="RATIO",
            parser=by_side(share, "number or share such as 25%"),
            help="Share of the full table, 0.25 or 25%; or of each: users=0.2,items=0.5.",
            show_default="0.25",
        ),
    ] = None
    budget_rows: Annotated[
        Any,
        typer.Option(
            "--budget-rows",
            metavar="N",
            parser=by_side(int, "whole number"),
            help="Number of codebook rows, instead of --budget; or of each: users=900,items=300.",
        ),
    ] = None
    budget_measure: Annotated[
        str,
        choice("What --budget is a share of: parameters or bytes.", "baco_gpu.budget:MEASURES"),
    ] = "parameters"
    gamma: Annotated[
        float | None, typer.Option(help="Resolution: higher means smaller, more even clusters.", show_default="chosen")
    ] = None
    weights: Annotated[
        str | None,
        choice(
            "Node weights: degree, sqrt, log, unit or paper.",
            "baco_gpu.clustering.solve.weights:SCHEMES",
            show_default="the solver's",
        ),
    ] = None
    solver: Annotated[
        str,
        choice(
            "multilevel (meets the budget to the row), paper (published sweeps) or bisecting (keeps most recall).",
            "baco_gpu.clustering.solve.parameters:SOLVERS",
        ),
    ] = "multilevel"
    secondary: Annotated[
        str | None,
        choice(
            "Sides with secondary clusters: users, items, both or none.",
            "baco_gpu.clustering.solve.parameters:SECONDARY",
            show_default="users; both for solver bisecting",
        ),
    ] = None
    embedding_dim: Annotated[int, typer.Option("--embedding-dim", "--dim", help="Embedding dimension.")] = 64
    codebooks: Annotated[
        str,
        choice(
            "separate: one for users and one for items; shared: one for both, a row a co-cluster.",
            "baco_gpu.clustering.solve.parameters:CODEBOOKS",
        ),
    ] = "separate"
    codebook_dtype: Annotated[
        str | None,
        choice(
            "How codebooks are stored, and trained for: float, or integers of fewer bits, int16 or int8 to int2.",
            "baco_gpu.precision:CODEBOOK_DTYPES",
            show_default="float; method quantized chooses",
        ),
    ] = None

    def estimator(self, run: Run) -> BalancedCoclustering:
        """The estimator that the options describe, all checked.

        Raises
        ------
        InputError
            If an option is out of its range, or both kinds of budget are given.
        """
        from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering

        if self.budget is not None and self.budget_rows is not None:
            raise InputError(f"give --budget or --budget-rows, got both ({self.budget} and {self.budget_rows})")
        budget = self.budget if self.budget_rows is None else self.budget_rows
        if budget is None and not (self.solver == "paper" and self.gamma is not None):
            budget = 0.25
        others = {name: value for name, value in vars(self).items() if name not in ("budget", "budget_rows")}
        estimator = BalancedCoclustering(budget=budget, backend=run.backend, random_state=run.seed, **others)
        estimator.check_parameters()
        return estimator


@dataclass(frozen=True)
class Training:
    """What is trained, and how."""

    panel: ClassVar[str] = "Training"

    model: Annotated[
        str,
        choice("Recommender, one of the models: sasrec learns from sequences.", "baco_gpu.models:MODELS"),
    ] = "lightgcn"
    loss: Annotated[
        str,
        choice("Loss: softmax, against many other items, or bpr, against one.", "baco_gpu.models.losses:LOSSES"),
    ] = "softmax"
    negatives: Annotated[int, typer.Option(help="Other items of the softmax, shared by a batch.")] = 512
    epochs: Annotated[int, typer.Option(help="Epochs at most.")] = 500
    batch_size: Annotated[int, typer.Option(help="Interactions a training step.")] = 2048
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="Adam's learning rate.")] = 5e-3
    weight_decay: Annotated[
        float | None,
        typer.Option(help="Factor of the L2 term on a batch's embeddings.", show_default="by loss, model and density"),
    ] = None
    evaluate_every: Annotated[int, typer.Option(metavar="N", help="Rank the validation part every N epochs.")] = 1
    patience: Annotated[
        int, typer.Option(help="Stop after this many evaluations without a better validation recall@20.")
    ] = 10
    lr_drops: Annotated[
        int,
        typer.Option(
            metavar="N", help="Before stopping, go on N times from the best epoch at an eighth of the learning rate."
        ),
    ] = 1
    embedding_std: Annotated[float, typer.Option(help="Standard deviation of the initial embeddings.")] = 0.1
    embedding_init: Annotated[
        str,
        choice("Initial embeddings: normal, or spectral (for sparse sets).", "baco_gpu.training.settings:INITS"),
    ] = "normal"
    device: Annotated[str, typer.Option(help="Where training runs, a torch device: cpu, cuda, cuda:1, ...")] = "cpu"
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="On a GPU, launch a training step as one CUDA graph.")
    ] = False

    def settings(self, run: Run) -> TrainingSettings:
        """The settings of the trainer; InputError for values out of range."""
        from baco_gpu.training.settings import TrainingSettings

        return TrainingSettings(seed=run.seed, **{name: part for name, part in vars(self).items() if name != "model"})


def words(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def check_output(
    path: Path | None,
    suffix: str = "",
    *,
    is_table: bool = False,
    others: Mapping[str, str | Path | None] = MappingProxyType({}),
) -> None:
    """Raise InputError unless a file of this suffix, or of a table's, can be made at `path`: before the work.

    It must be none of the `others`, what the command reads and what else it writes, by the names of their parameters.
    """
    if path is not None:
        check_differs(path, others)
        if is_table:
            from baco_gpu.data.labels import check_table_path

            check_table_path(path)
        if path.is_dir():
            raise InputError(f"output {path}: expected a file name, got a folder")
        if suffix and path.suffix != suffix:
            raise InputError(f"output {path}: expected a name that ends in {suffix}, got {path.suffix!r}")
        if not path.parent.is_dir():
            raise InputError(f"output {path}: the folder {path.parent} does not exist")
        check_writable(path)


def check_differs(path: Path, others: Mapping[str, str | Path | None]) -> None:
    """Raise InputError if a file that is written is one of the `others`: each would take the other's place."""
    for name, other in others.items():
        if other is not None and os.path.realpath(path) == os.path.realpath(other):
            raise InputError(f"output {path}: expected another name than that of {name}, got the same")
