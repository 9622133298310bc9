"""A training step that several processes share: each takes its part of the batch, and all take the same step."""

from __future__ import annotations

import json
from importlib.metadata import version

import torch
from torch import Tensor
from torch.optim import Optimizer

from baco_gpu.models.losses import BPR, BatchRows, Objective
from baco_gpu.models.model import Model
from baco_gpu.ranks import Ranks
from baco_gpu.tables.full import tables_in
from baco_gpu.tables.sharded import sharded_in
from baco_gpu.training.checkpoint import checksum_of, identity_of
from baco_gpu.training.steps import TrainingStep
from baco_gpu.training.training_run import TrainingRun


def agree_on(run: TrainingRun, ranks: Ranks) -> None:
    """Raise InputError on all ranks unless they have the same versions, settings, data, model and weights."""
    identity = identity_of(run)
    identity["settings"].pop("device")  # each rank has its own
    ranks.agree(
        version_of_baco_gpu=version("baco_gpu"),
        version_of_torch=torch.__version__,
        checksum_of_the_data=identity["data"],
        model=json.dumps(identity["model"]),
        weights=_weights(run),
        **{name: repr(value) for name, value in identity["settings"].items()},
    )


def agree_on_beginning(run: TrainingRun, ranks: Ranks) -> None:
    """Raise InputError on all ranks unless they go on from the same epoch with the same weights.

    Each has read a checkpoint by itself, and not every file system is one that all hosts share.
    """
    ranks.agree(epoch_to_go_on_from=str(run.epoch), weights=_weights(run) if run.epoch else "")


def _weights(run: TrainingRun) -> str:
    """SHA-256 of what all ranks have in common."""
    sharded = sharded_in(run.model)
    return checksum_of({name: tensor for name, tensor in run.model.state_dict().items() if name not in sharded}, "")


class RankStep(TrainingStep):
    """A `TrainingStep` on a batch that all ranks have, of which each computes its part.

    Gradients are summed over the ranks, so that all of them take the step of the whole batch, and keep equal weights.
    These are one process's but for the order in which floats are added up.
    """

    def __init__(self, model: Model, optimizer: Optimizer, objective: Objective, ranks: Ranks) -> None:
        super().__init__(model, optimizer, objective)
        self.ranks = ranks

    def __call__(self, batch: Tensor) -> None:
        rank, size, count = self.ranks.rank, self.ranks.size, batch.shape[1]
        own = batch[:, count * rank // size : count * (rank + 1) // size]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(own, PartObjective(self.objective, self.ranks))
        loss.backward()
        self._add_gradients()
        self.optimizer.step()
        self.total += loss.detach() * count

    @torch.no_grad()
    def _add_gradients(self) -> None:
        """Sum the gradients of all ranks: those of parameters at once, and those that tables keep with them.

        Of rows that one rank alone has, it has the sum already.
        """
        sharded = sharded_in(self.model)
        gradients = [
            parameter.grad
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None and parameter.numel() and name not in sharded
        ]
        if gradients:
            total = self.ranks.add(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = total.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        for table in tables_in(self.model):
            table.add_gradients(self.ranks)


class PartObjective(Objective):
    """What one rank's part of a batch adds to the `Objective` of the whole: over all ranks it sums up to that.

    Every rank calls `items_of` and then the objective, once each.
    """

    def __init__(self, whole: Objective, ranks: Ranks) -> None:
        super().__init__(whole.loss, whole.negatives, whole.weight_decay)
        self._ranks = ranks
        self._total = 0

    def items_of(self, chosen: Tensor, others: Tensor) -> Tensor:
        """As of `Objective`; the items that a softmax shares are those of the whole batch."""
        counts = self._ranks.table(len(chosen))[:, 0]
        self._total = int(counts.sum())
        if self.loss == BPR:
            return super().items_of(chosen, others)
        firsts = self._ranks.gather(others[: self.negatives], counts.clip(max=self.negatives).tolist())
        return super().items_of(chosen, torch.cat([torch.as_tensor(some, device=others.device) for some in firsts]))

    def __call__(self, rows: BatchRows) -> Tensor:
        count, items = len(rows.users), rows.initial_items
        if self.loss != BPR and self._ranks.rank > 0:
            items = items[:count]  # those that all share are the first one's to be kept short
        squares = rows.initial_users.square().sum() + items.square().sum()
        kept = self.weight_decay * squares / (2 * max(self._total, 1))
        if count == 0:
            return kept + 0 * (rows.users.sum() + rows.items.sum())
        return kept + self.value(rows) * (count / self._total)
