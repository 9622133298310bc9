"""Training with Bayesian personalised ranking, early stopping and the best checkpoint restored."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import BacoError, InputError
from baco_gpu.evaluation.ranking import evaluate_ranking
from baco_gpu.models.recommender import BprTerms, Recommender
from baco_gpu.progress import Progress, silent
from baco_gpu.training.sampling import BprSampler
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings


class DivergenceError(BacoError, ArithmeticError):
    """The loss of a training run is no longer a finite number."""


def train(
    model: Recommender, split: SplitInteractions, settings: TrainingSettings, progress: Progress = silent
) -> TrainingResult:
    """Train `model` in place on the training part, and leave it with the weights of its best epoch.

    The loss of a batch is the mean of `softplus(negative - positive)` plus `weight_decay * penalty`, minimised by
    Adam. The same seed, device and number of threads give the same weights, bit for bit.

    Parameters
    ----------
    model : Recommender
        Moved to `settings.device`; its embeddings are drawn anew unless `settings.embedding_std` is None.
    split : SplitInteractions
        The validation part decides the best epoch, with the training items masked; the test part is ranked once at
        the end, with the training items masked too. An empty test part is not ranked.
    settings : TrainingSettings
    progress : function (phase, done, total, note)
        Called with phase "training" after every epoch.

    Raises
    ------
    InputError
        When sizes disagree, there is nothing to train on, an embedding is sparse, or there is no validation part
        and `patience` is not None.
    DivergenceError
        When the loss is not finite.

    Notes
    -----
    An error or an interrupt during training leaves the model with the best weights so far (if an epoch was evaluated),
    and passes on.
    """
    _check(model, split, settings)
    device = torch.device(settings.device)
    model.to(device).train()
    if settings.embedding_std is not None:
        reset_embeddings(model, settings.embedding_std, settings.seed)
    # A seed of its own, or the negatives would be drawn from the numbers that the embeddings were.
    sampler = BprSampler(split.train, settings.batch_size, seed=settings.seed + 1, device=device)
    # The fused step takes a third of the time of the default one on two cores.
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    run = _Run(model)
    try:
        for epoch in range(1, settings.epochs + 1):
            started = time.perf_counter()
            loss = _train_epoch(model, sampler, optimizer, settings.weight_decay)
            seconds = time.perf_counter() - started
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss of epoch {epoch} is {loss}; a learning rate below {settings.learning_rate:g} may help"
                )
            metrics = None
            if len(split.validation) and (epoch % settings.evaluate_every == 0 or epoch == settings.epochs):
                metrics = run.evaluate(split.train, split.validation, (settings.k,))
            run.note(EpochRecord(epoch, loss, seconds, metrics), f"recall@{settings.k}")
            progress("training", epoch, settings.epochs, _describe(run.history[-1], settings.k))
            if settings.patience is not None and run.stale >= settings.patience:
                break
    finally:
        run.restore()
        model.eval()
    return run.finish(split, sorted({*settings.ks, settings.k}), sampler.num_samples)


def bpr_loss(terms: BprTerms, weight_decay: float) -> Tensor:
    """Mean of `softplus(negative - positive)` over the batch, plus `weight_decay` times the penalty."""
    return functional.softplus(terms.negative - terms.positive).mean() + weight_decay * terms.penalty


@torch.no_grad()
def reset_embeddings(model: nn.Module, std: float, seed: int) -> None:
    """Draw every embedding table and codebook of `model` from N(0, std^2); padding rows of full tables stay zero.

    The numbers are drawn on the CPU, so that they are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if not isinstance(module, nn.Embedding | CodebookEmbedding):
            continue
        table = module.codebook if isinstance(module, CodebookEmbedding) else module.weight
        table.copy_(torch.empty(table.shape, dtype=table.dtype).normal_(0.0, std, generator=generator))
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            table[module.padding_idx] = 0


class _Run:
    """The state of a training run: its history, the clock of its evaluations and its best weights."""

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self.history: list[EpochRecord] = []
        self.best_epoch = 0
        self.best_score = -math.inf
        self.stale = 0
        self.evaluation_seconds = 0.0
        self._best: list[Tensor] | None = None

    def evaluate(self, train_part: Interactions, held_out: Interactions, ks: tuple[int, ...]) -> dict[str, float]:
        started = time.perf_counter()
        with torch.no_grad():
            users, items = self.model.representations()
        metrics = evaluate_ranking(users, items, train_part, held_out, ks)
        self.evaluation_seconds += time.perf_counter() - started
        return metrics

    def note(self, record: EpochRecord, criterion: str) -> None:
        """Take down an epoch, and keep its weights if it is the best so far."""
        self.history.append(record)
        if record.validation is None:
            return
        self.stale += 1
        if record.validation[criterion] > self.best_score:
            self.best_score, self.best_epoch, self.stale = record.validation[criterion], record.epoch, 0
            current = [parameter.detach() for parameter in self.model.parameters()]
            if self._best is None:
                self._best = [torch.empty_like(tensor) for tensor in current]
            torch._foreach_copy_(self._best, current)

    @torch.no_grad()
    def restore(self) -> None:
        if self._best is not None:
            for parameter, tensor in zip(self.model.parameters(), self._best, strict=True):
                parameter.copy_(tensor)

    def finish(self, split: SplitInteractions, ks: list[int], samples_per_epoch: int) -> TrainingResult:
        validation, test = (
            self.evaluate(split.train, part, tuple(ks)) if len(part) else {} for part in (split.validation, split.test)
        )
        return TrainingResult(
            history=self.history,
            best_epoch=self.best_epoch or len(self.history),
            validation=validation,
            test=test,
            training_seconds=sum(record.seconds for record in self.history),
            evaluation_seconds=self.evaluation_seconds,
            samples=samples_per_epoch * len(self.history),
        )


def _train_epoch(
    model: Recommender, sampler: BprSampler, optimizer: torch.optim.Optimizer, weight_decay: float
) -> float:
    """One pass over the sampler's triples; the mean loss a triple. The device is waited for at the end alone."""
    total = torch.zeros((), dtype=torch.float64, device=sampler.device)
    for users, positives, negatives in sampler.epoch():
        optimizer.zero_grad(set_to_none=True)
        loss = bpr_loss(model.bpr_batch(users, positives, negatives), weight_decay)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(users)
    return float(total) / sampler.num_samples


def _describe(record: EpochRecord, k: int) -> str:
    loss, metric = f"loss {record.loss:.4f}", f"recall@{k}"
    return loss if record.validation is None else f"{loss}, validation {metric} {record.validation[metric]:.4f}"


def _check(model: Recommender, split: SplitInteractions, settings: TrainingSettings) -> None:
    if (model.num_users, model.num_items) != (split.num_users, split.num_items):
        raise InputError(
            f"the model has {model.num_users} users and {model.num_items} items, "
            f"the split {split.num_users} and {split.num_items}"
        )
    if settings.patience is not None and len(split.validation) == 0:
        raise InputError("the validation part is empty: early stopping needs one, or a patience of None")
    if any(getattr(module, "sparse", False) for module in model.modules()):
        raise InputError("train needs dense gradients: build the embeddings with sparse=False")
