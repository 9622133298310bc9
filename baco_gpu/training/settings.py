"""What a training run is told, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from baco_gpu.checks import check_choice, check_integer, check_number, check_sequence
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.models.losses import LOSSES, NEGATIVES, SOFTMAX, Objective
from baco_gpu.models.model import Model

INITS = ("normal", "spectral")
_MOST = 2**31 - 1


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of `train`.

    Attributes
    ----------
    epochs : int
        At most this many passes over the training interactions; patience is meant to end a run before.
    batch_size : int
    learning_rate : float
        Of Adam. Larger sets take larger batches (8192 for 1e6 interactions) at the same rate.
    weight_decay : float or None
        Factor of the batch's penalty (see `Objective`); None is what the model says. It is no decay of Adam's.
    loss : {"softmax", "bpr"}
        "softmax" sets the chosen item against `negatives` others, "bpr" against one (`baco_gpu.models.losses`).
    negatives : int
        Of the softmax: the others are shared by the users of a batch.
    evaluate_every : int
        Epochs between two evaluations on the validation part; the last epoch is evaluated in any case.
    patience : int or None
        Training ends after this many evaluations in a row without a better validation recall@k; None never ends early.
    lr_drops : int
        How often, when patience has run out, the run goes back to its best weights and on at an eighth of the learning
        rate before it ends. Tables that store less than floats are rounded then, and trained through that in two more
        such stages, at this rate and at an eighth of it. A run that ends before rounds what it has.
    k : int
        The cutoff of the recall that decides.
    ks : tuple of int
        Cutoffs of the final metrics, next to `k`.
    seed : int
        Of the initial embeddings, the order of the interactions and the negatives.
    embedding_std : float or None
        Standard deviation of the initial embeddings, normal with mean zero; None starts from the model as it is.
    embedding_init : {"normal", "spectral"}
        Which values these are: as drawn, or of the same length in the directions of a spectral embedding of the
        training part (`baco_gpu.training.spectral`), which suits sparse sets.
    device : str
        Where the model is trained, and where it is left.
    cuda_graph : bool
        Whether a training step is recorded once, as a CUDA graph, and then run as one launch, for the many small
        batches whose time goes into launches. No GPU has run it yet.

    Raises
    ------
    InputError
        When a value is out of its range.
    """

    epochs: int = 500
    batch_size: int = 2048
    learning_rate: float = 5e-3
    weight_decay: float | None = None
    loss: str = SOFTMAX
    negatives: int = NEGATIVES
    evaluate_every: int = 1
    patience: int | None = 10
    lr_drops: int = 1
    k: int = 20
    ks: tuple[int, ...] = (10, 20, 50)
    seed: int = 0
    embedding_std: float | None = 0.1
    embedding_init: str = "normal"
    device: str = "cpu"
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        ints: dict[str, Any] = {
            name: check_integer(name, getattr(self, name), minimum=1, maximum=_MOST)
            for name in ("epochs", "batch_size", "evaluate_every", "k", "negatives")
        }
        ints["ks"] = tuple(check_integer("ks", k, minimum=1) for k in check_sequence("ks", self.ks))
        if self.patience is not None:
            ints["patience"] = check_integer("patience", self.patience, minimum=1, maximum=_MOST)
        ints["lr_drops"] = check_integer("lr_drops", self.lr_drops, minimum=0)
        ints["seed"] = check_integer("seed", self.seed, minimum=0, maximum=2**63 - 2)
        for name, value in ints.items():  # Python's, which do not run over as NumPy's of few bits do
            object.__setattr__(self, name, value)
        check_number("learning_rate", self.learning_rate, above=0.0)
        if self.weight_decay is not None:
            check_number("weight_decay", self.weight_decay, minimum=0.0)
        check_choice("loss", self.loss, LOSSES)
        if self.embedding_std is not None:
            check_number("embedding_std", self.embedding_std, above=0.0)
        check_choice("embedding_init", self.embedding_init, INITS)
        if self.embedding_init != INITS[0] and self.embedding_std is None:
            raise InputError(f"embedding_init {self.embedding_init!r} needs an embedding_std, got None")
        try:
            device = torch.device(self.device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"device must name a torch device, got {self.device!r}") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {self.device!r} was asked for, and torch sees no CUDA device")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            most = torch.cuda.device_count() - 1
            raise InputError(f"device must be from cuda:0 to cuda:{most}, which torch sees, got {self.device!r}")
        check_choice("cuda_graph", self.cuda_graph, (False, True))
        if self.cuda_graph and device.type != "cuda":
            raise InputError(f"cuda_graph must be False where the model is not trained on CUDA, got {self.device!r}")

    def objective(self, train: Interactions, model: Model) -> Objective:
        """What a training step of this model on these interactions minimises."""
        decay = model.default_weight_decay(self.loss, train) if self.weight_decay is None else self.weight_decay
        return Objective(self.loss, self.negatives, decay)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number from 1, mean loss a sample, seconds of training, and metrics if it was evaluated."""

    epoch: int
    loss: float
    seconds: float
    validation: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training run; the model itself holds the weights of `best_epoch`.

    Attributes
    ----------
    history : list of EpochRecord
    best_epoch : int
        The epoch of the highest validation recall@k, the first of several; the last epoch where nothing was evaluated.
    validation, test : dict of float
        Metrics of the best epoch's weights, as of `evaluate_ranking`; empty where that part of the split is.
    training_seconds, evaluation_seconds : float
        Wall-clock time in training steps, and in evaluations (the final ones too).
    samples : int
        Trained on, over all epochs: triples, or whatever the model's sampler draws.
    """

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    samples: int = 0

    def __repr__(self) -> str:
        found = ", ".join(
            f"{name} {value:.4f}" for name, value in self.test.items() if name in ("recall@20", "ndcg@20")
        )
        epochs = f"best of {len(self.history)} epochs: {self.best_epoch}"
        return f"TrainingResult({epochs}{', test ' if found else ''}{found})"
