"""Losses of a batch of triples, and what a step minimises: a loss and the penalty that weight decay multiplies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from baco_gpu.checks import check_choice
from baco_gpu.data.interactions import Interactions
from baco_gpu.models.matrix_factorization import MatrixFactorization
from baco_gpu.models.recommender import BatchRows, Recommender

LOSSES = ("softmax", "bpr")
NEGATIVES = 512

Objective = Callable[[Recommender, Tensor], Tensor]


def bpr_loss(model: Recommender, triples: Tensor) -> tuple[Tensor, BatchRows]:
    """Mean of `softplus(negative - positive)` over the batch: Bayesian personalised ranking.

    Rendle et al., UAI 2009 (arXiv 1205.2618), section 4.1.

    Parameters
    ----------
    model : Recommender
    triples : int64 tensor of shape (3, batch)
        Users, the items that they chose, and one each that they did not.

    Returns
    -------
    The loss, and the rows that it read.
    """
    rows = model.rows(triples[0], triples[1:])
    positive, negative = (rows.users * rows.items).sum(-1)
    return functional.softplus(negative - positive).mean(), rows


def softmax_loss(model: Recommender, triples: Tensor, negatives: int = NEGATIVES) -> tuple[Tensor, BatchRows]:
    """Cross-entropy of the chosen item among itself and `negatives` others, in the mean over the batch.

    The others are the negatives of the batch's first triples, for every user the same: that is one product of
    matrices, and each is drawn over nearly all items. Wu et al., "On the Effectiveness of Sampled Softmax Loss for
    Item Recommendation" (arXiv 2201.02327); they divide cosines by a temperature, where here the length of the rows
    is learned, and held by weight decay.

    Parameters
    ----------
    model : Recommender
    triples : int64 tensor of shape (3, batch)
        Users, the items that they chose, and one each that they did not.
    negatives : int
        Of a batch with fewer triples, all are used.

    Returns
    -------
    The loss, and the rows that it read.
    """
    users, chosen, others = triples
    rows = model.rows(users, torch.cat((chosen, others[:negatives])))
    loss: Tensor = _SharedSoftmax.apply(rows.users, rows.items[: len(users)], rows.items[len(users) :])
    return loss, rows


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


def default_weight_decay(loss: str, train: Interactions, model: Recommender) -> float:
    """Weight decay where none is given: 1e-4 with "bpr", as in LightGCN; by model, density and rows with "softmax".

    The fewer interactions an id has, the shorter its rows must be kept, under LightGCN above all, which takes rows from
    the neighbours. Of full tables validation recall on Beauty, Gowalla and MovieLens-100K (9, 23 and 61 interactions
    an id) is best near 0.2, 0.015 and 0.002 under LightGCN, and near 0.3, 0.15 and 0.1 under matrix factorisation;
    powers of the density come near to that. Rows that many ids share are held by sharing already, and get half.
    """
    if loss == "bpr":
        return 1e-4
    ids = max(train.num_users + train.num_items, 1)
    density = max(2 * len(train) / ids, 1)
    own = min(0.9 / density**0.5, 0.3) if isinstance(model, MatrixFactorization) else min(50 / density**2.5, 0.2)
    return float(own * (1 + model.num_rows / ids) / 2)


def objective(loss: str, *, weight_decay: float, negatives: int = NEGATIVES) -> Objective:
    """What a training step minimises: the loss called `loss`, plus `weight_decay` times the batch's penalty.

    The penalty is half the squared norm of the initial rows of the batch, over the batch size, as the authors of
    LightGCN count it.
    """
    check_choice("loss", loss, LOSSES)

    def minimised(model: Recommender, triples: Tensor) -> Tensor:
        if loss == "bpr":
            value, rows = bpr_loss(model, triples)
        else:
            value, rows = softmax_loss(model, triples, negatives)
        squares = rows.initial_users.square().sum() + rows.initial_items.square().sum()
        return value + weight_decay * squares / (2 * max(triples.shape[1], 1))

    return minimised
