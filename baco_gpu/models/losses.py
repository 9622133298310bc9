"""What a training step minimises: a loss of chosen items against others, and a penalty on their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.parallel import in_parts

SOFTMAX, BPR = "softmax", "bpr"
LOSSES = (SOFTMAX, BPR)
NEGATIVES = 512

_TILE = 256  # users whose scores stay in the cache
_ROWS, _COLUMNS = 64, 16  # sizes of tiles are multiples of these
_PARALLEL = 1 << 14  # values for which a second thread is worth waking


class BatchRows(NamedTuple):
    """What an objective reads of a model, for a batch of users (or of whatever else asks for items).

    Attributes
    ----------
    users, items : floating tensors of shape (batch, dim) and (*items, dim)
        Their inner products are the scores; items are those of `Objective.items_of`.
    initial_users, initial_items : floating tensors of shape (any, dim) and (*items, dim)
        Rows of the embedding tables, which weight decay is on.
    """

    users: Tensor
    items: Tensor
    initial_users: Tensor
    initial_items: Tensor


@dataclass(frozen=True)
class Objective:
    """A loss of the scores of chosen items and of others, plus a penalty.

    The penalty is half the squared norm of the initial rows of the batch, over the batch size, as the authors of
    LightGCN count it.

    Attributes
    ----------
    loss : {"softmax", "bpr"}
        See `softmax_loss` and `bpr_loss`.
    negatives : int
        Other items of the softmax. Of a batch with fewer, all are used.
    weight_decay : float
        What multiplies the penalty.
    """

    loss: str = SOFTMAX
    negatives: int = NEGATIVES
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        check_integer("negatives", self.negatives, minimum=1)

    def items_of(self, chosen: Tensor, others: Tensor) -> Tensor:
        """The items whose rows are read, of the chosen ones, (batch,), and one other for each of them."""
        if self.loss == BPR:
            return torch.stack((chosen, others))
        return torch.cat((chosen, others[: self.negatives]))

    def value(self, rows: BatchRows) -> Tensor:
        """The loss alone."""
        return bpr_loss(rows.users, rows.items) if self.loss == BPR else softmax_loss(rows.users, rows.items)

    def __call__(self, rows: BatchRows) -> Tensor:
        squares = rows.initial_users.square().sum() + rows.initial_items.square().sum()
        return self.value(rows) + self.weight_decay * squares / (2 * max(len(rows.users), 1))

    def differentiate_(self, users: Tensor, items: Tensor) -> float:
        """Put the gradients by rows in the place of rows that are initial ones, too; the value of the objective.

        On a CPU, in compiled loops, and without autograd: the values and gradients of `__call__`, to rounding, and the
        same bits for any number of threads.

        Parameters
        ----------
        users : float32 tensor of shape (batch, dim), contiguous
        items : float32 tensor of shape (any, dim), contiguous
            Those of `items_of`, one after another.
        """
        differentiate = _differentiate_bpr if self.loss == BPR else _differentiate_softmax
        return differentiate(users, items, self.weight_decay)


def bpr_loss(users: Tensor, items: Tensor) -> Tensor:
    """Mean of `softplus(negative - positive)` over the batch: Bayesian personalised ranking.

    Rendle et al., UAI 2009 (arXiv 1205.2618), section 4.1.

    Parameters
    ----------
    users : floating tensor of shape (batch, dim)
    items : floating tensor of shape (2, batch, dim)
        The chosen ones, and one other each.
    """
    positive, negative = (users * items).sum(-1)
    return functional.softplus(negative - positive).mean()


def softmax_loss(users: Tensor, items: Tensor) -> Tensor:
    """Cross-entropy of the chosen item among itself and others, in the mean over the batch.

    The others are the negatives of the batch's first samples, for every user the same: that is one product of
    matrices, and each is drawn over nearly all items. Wu et al., "On the Effectiveness of Sampled Softmax Loss for
    Item Recommendation" (arXiv 2201.02327); they divide cosines by a temperature, where here the length of the rows
    is learned, and held by weight decay.

    Parameters
    ----------
    users : floating tensor of shape (batch, dim)
    items : floating tensor of shape (batch + negatives, dim)
        The chosen ones, and then those that are shared.
    """
    loss: Tensor = _SharedSoftmax.apply(users, items[: len(users)], items[len(users) :])
    return loss


class _SharedSoftmax(torch.autograd.Function):
    """Mean cross-entropy of a row's own item among itself and items shared by all rows.

    The table of scores, (batch, shared), is most of the time, and kept once: PyTorch's operations one by one write it
    several times, and take half as long again.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, own: Tensor, shared: Tensor) -> Tensor:
        positive, scores = (users * own).sum(-1), users @ shared.T
        highest = torch.maximum(scores.amax(-1), positive)
        odds = scores.sub_(highest[:, None]).exp_()
        against = odds.sum(-1)
        total = against + (positive - highest).exp_()
        ctx.save_for_backward(users, own, shared, odds, against, total)
        return (total.log() + highest - positive).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        users, own, shared, odds, against, total = ctx.saved_tensors
        weight = (grad / (len(users) * total))[:, None]
        push = weight * against[:, None]
        return weight * (odds @ shared) - push * own, -push * users, odds.T @ (weight * users)


def _differentiate_bpr(users: Tensor, items: Tensor, decay: float) -> float:
    from baco_gpu.models import losses_loop  # and Numba, which training on a GPU can do without

    losses = np.empty(len(users), np.float32)
    threads = _threads(3 * users.numel())
    in_parts(losses_loop.differentiate_bpr, threads, users.numpy(), items.numpy(), np.float32(decay), losses)
    return float(losses.mean(dtype=np.float64))


def _differentiate_softmax(users: Tensor, items: Tensor, decay: float) -> float:
    """In tiles of users whose scores stay in the cache.

    Tiles are filled up with zeros: the products of these sizes alone have the same bits for any number of threads.
    """
    from baco_gpu.models import losses_loop

    count, dim = users.shape
    own, shared = items[:count], items[count:]
    keep = decay / max(count, 1)
    height, width = min(_up(count, _ROWS), _TILE), _up(dim, _COLUMNS)
    others = users.new_zeros((_up(len(shared), _ROWS), width))
    others[: len(shared), :dim] = shared
    some, pulled = users.new_zeros((height, width)), users.new_empty((height, width))
    scores = users.new_empty((height, len(others)))
    losses, pushes = np.empty(count, np.float32), np.empty(count, np.float32)
    gradient, threads = others * keep, _threads(scores.numel())
    for start in range(0, count, height):
        part = slice(start, min(start + height, count))
        size = part.stop - start
        some[:size, :dim] = users[part]
        some[size:] = 0
        torch.mm(some, others.T, out=scores)
        scores[size:] = 0
        mine = users[part].numpy(), own[part].numpy()
        about = len(shared), count, np.float32(decay), losses[part], pushes[part]
        bounds = scores[:, : len(shared)].amax(1).numpy()
        in_parts(losses_loop.weigh_scores, threads, *mine, scores.numpy(), bounds, *about)
        gradient.addmm_(scores.T, some)
        torch.mm(scores, others, out=pulled)
        in_parts(losses_loop.push_apart, threads, *mine, pulled.numpy(), pushes[part], np.float32(keep))
    squares = float(np.square(shared.numpy(), dtype=np.float64).sum())
    shared.copy_(gradient[: len(shared), :dim])
    return (float(losses.sum(dtype=np.float64)) + decay * squares / 2) / max(count, 1)


def _up(count: int, step: int) -> int:
    """The least multiple of `step` that is no less, and not zero."""
    return max(-(-count // step), 1) * step


def _threads(values: int) -> int:
    return torch.get_num_threads() if values >= _PARALLEL else 1
