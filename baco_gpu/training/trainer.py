"""Training with early stopping and the best checkpoint restored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from baco_gpu.cuda.faults import telling_lost_device
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import BacoError, InputError
from baco_gpu.models.model import ITEMS, USERS, Model, Sampler
from baco_gpu.ranks import Ranks
from baco_gpu.stopwatch import Stopwatch
from baco_gpu.tables.embedding_table import own_optimizers
from baco_gpu.tables.full import tables_in
from baco_gpu.tables.optimizers import CombinedOptimizer
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.rank_step import RankStep, agree_on, agree_on_beginning
from baco_gpu.training.settings import TrainingResult, TrainingSettings
from baco_gpu.training.spectral import spectral_embeddings
from baco_gpu.training.steps import Step, training_step
from baco_gpu.training.training_run import TrainingRun


class DivergenceError(BacoError, ArithmeticError):
    """The loss of a training run is no longer a finite number."""


def train(
    model: Model,
    split: SplitInteractions,
    settings: TrainingSettings,
    callbacks: Sequence[Callback] = (),
    *,
    ranks: Ranks | None = None,
) -> TrainingResult:
    """Train `model` in place on the training part, and leave it with the weights of its best epoch.

    Adam minimises the `objective` of the settings; tables that bring an optimizer are trained by that. On a CPU, steps
    take only the rows that a batch reads, if the model reads nothing else (`baco_gpu.training.row_steps.RowStep`). The
    same seed, device and number of threads give the same weights, bit for bit; such steps do for any number of threads.

    Parameters
    ----------
    model : Model
        Moved to `settings.device`; its embeddings are drawn anew unless `settings.embedding_std` is None.
    split : SplitInteractions
        The validation part decides the best epoch, with the training items masked; the test part is ranked once at
        the end, with the training items masked too. An empty test part is not ranked.
    settings : TrainingSettings
    callbacks : sequence of Callback
        Told of the run's start, every epoch and its end, in this order; see `Callback`.
    ranks : Ranks, optional
        The processes that train together, such as a `baco_gpu.distributed.TorchRanks`. All make this call with equal
        models, data and settings. Every batch is divided among them, as are the users of a ranking; all ranks have the
        whole model, and end with the same weights and metrics, bit for bit. Weights are one process's but for the order
        in which floats are added up.

    Raises
    ------
    InputError
        When ranks disagree on the model, the data, the settings or the versions of baco_gpu and PyTorch; when sizes
        disagree, there is nothing to train on, an embedding is sparse, there is no validation part and
        `patience` is not None, embeddings are to be drawn that have no floats any more, or ranks are to record steps.
    DivergenceError
        When the loss is not finite.
    DeviceLostError
        When the GPU fails; the weights on it are lost, and a checkpoint is as the last epoch left it.

    Notes
    -----
    Another error or an interrupt during training, or in a callback, leaves the model with the best weights so far (if
    an epoch was evaluated), and passes on.
    """
    _check(model, split, settings, ranks)
    device = torch.device(settings.device)
    with telling_lost_device(str(device), lambda: _wait_for(device)):
        return _train(model, split, settings, callbacks, ranks, device)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _train(
    model: Model,
    split: SplitInteractions,
    settings: TrainingSettings,
    callbacks: Sequence[Callback],
    ranks: Ranks | None,
    device: torch.device,
) -> TrainingResult:
    model.to(device).train()
    if settings.embedding_std is not None:
        model.initialize(settings.embedding_std, torch.Generator().manual_seed(settings.seed))
        if settings.embedding_init == "spectral":
            spectral_embeddings(model, split.train, settings.embedding_std)
    sampler = model.sampler(split, batch_size=settings.batch_size, seed=settings.seed, device=device)
    optimizer = _optimizer(model, settings)
    objective = settings.objective(split.train, model)
    step: Step
    if ranks is None:
        step = training_step(model, optimizer, objective, settings.cuda_graph)
    else:
        step = RankStep(model, optimizer, objective, ranks)
    run = TrainingRun(model, split, settings, optimizer, ranks)
    if ranks is not None:
        agree_on(run, ranks)
    try:
        for callback in callbacks:
            callback.on_start(run)
        if ranks is not None:
            agree_on_beginning(run, ranks)
        while not run.finished:
            run.begin_epoch()
            watch = Stopwatch()
            loss, seconds = _train_epoch(step, sampler, run.epoch + 1, ranks), watch.seconds
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss of epoch {run.epoch + 1} is {loss}; "
                    f"a learning rate below {settings.learning_rate:g} may help"
                )
            record = run.note(loss, seconds)
            for callback in callbacks:
                callback.on_epoch(run, record)
    finally:
        run.restore()
        model.eval()
    result = run.finish(sampler.num_samples)
    for callback in callbacks:
        callback.on_end(run, result)
    return result


def reset_embeddings(model: nn.Module, std: float, seed: int) -> None:
    """Draw the rows of every table of `model` from N(0, std^2); see `EmbeddingTable.initialize`.

    The numbers are drawn on the CPU, so that they are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for table in tables_in(model):
        table.initialize(std, generator)


def _optimizer(model: Model, settings: TrainingSettings) -> Optimizer:
    """Adam, beside the optimizers that tables bring along."""
    rate = settings.learning_rate
    own = own_optimizers(tables_in(model), rate, settings.seed)
    taken = {parameter for optimizer in own for group in optimizer.param_groups for parameter in group["params"]}
    floats = [parameter for parameter in model.parameters() if parameter not in taken]
    # The fused step takes a third of the time of the default one on two cores.
    adam = [torch.optim.Adam(floats, lr=rate, fused=True, capturable=settings.cuda_graph)] if floats else []
    optimizers = [*adam, *own]
    return optimizers[0] if len(optimizers) == 1 else CombinedOptimizer(optimizers)


def _train_epoch(step: Step, sampler: Sampler, epoch: int, ranks: Ranks | None) -> float:
    """One pass over the sampler's samples; the mean loss of one. The device is waited for at the end alone."""
    step.begin()
    try:
        for batch in sampler.epoch(epoch):
            step(batch)
    finally:
        step.end()
    total = step.total if ranks is None else ranks.add(step.total)
    return float(total) / sampler.num_samples


def _check(model: Model, split: SplitInteractions, settings: TrainingSettings, ranks: Ranks | None) -> None:
    if ranks is not None and settings.cuda_graph:
        raise InputError("cuda_graph must be False for several ranks, got True")
    if (model.num_users, model.num_items) != (split.num_users, split.num_items):
        raise InputError(
            f"the model has {model.num_users} users and {model.num_items} items, "
            f"the split {split.num_users} and {split.num_items}"
        )
    if settings.patience is not None and len(split.validation) == 0:
        raise InputError("the validation part is empty: early stopping needs one, or a patience of None")
    model.check_training(std=settings.embedding_std, cuda_graph=settings.cuda_graph)
    if settings.embedding_init == "spectral" and model.tables.keys() != {USERS, ITEMS}:
        raise InputError(
            f"embedding_init must be 'normal' for a model of {' and '.join(model.tables)} alone, got 'spectral'"
        )
    if any(getattr(module, "sparse", False) for module in model.modules()):
        raise InputError("train needs dense gradients: build the embeddings with sparse=False")
