"""Gradients of a table without floats, in the hands of all that goes through the gradients of a model."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import ProductCodebookEmbedding, QuantizedEmbedding, RowwiseRMSprop, compress_module
from baco_gpu.errors import InputError
from baco_gpu.tables import quantized
from baco_gpu.tables.row_gradient import RowGradient

pytestmark = pytest.mark.heavy("trains models")

FIRST, SECOND = torch.tensor([[0, 4, 4], [6, 1, 4]]), torch.tensor([1, 5])


class Job(nn.Module):
    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.item = table
        self.score = nn.Linear(5, 1)

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.score(self.item(ids)) ** 3).sum()


def twins(padding_idx=None) -> tuple[Job, Job]:
    """A model with a table of few bits, and one with the same rows as floats."""
    torch.manual_seed(2)
    few = Job(QuantizedEmbedding(7, 5, padding_idx))
    floats = Job(few.item.expand())
    floats.score = copy.deepcopy(few.score)
    return few, floats


def found(job: Job) -> torch.Tensor:
    """The gradient of the whole table."""
    if not isinstance(job.item, QuantizedEmbedding):
        gradient = job.item.weight.grad
        return torch.zeros(7, 5) if gradient is None else gradient
    rows, sums = job.item.take_gradient()
    return torch.zeros(7, 5).index_copy_(0, rows, sums)


def scaled(job: Job) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer = torch.optim.SGD(job.parameters(), lr=0.1)
    scaler.scale(job.loss(FIRST)).backward()
    scaler.unscale_(optimizer)
    state = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
    assert [float(one) for one in state.values()] == [0.0]


def by_hand(job: Job) -> None:
    norm = sum(parameter.grad.data.norm(2) ** 2 for parameter in job.parameters()) ** 0.5
    greatest = max(float(parameter.grad.abs().max()) for parameter in job.parameters())
    sums = sum(float((parameter.grad**2).sum()) for parameter in job.parameters())
    assert sums == pytest.approx(float(norm) ** 2, rel=1e-5)
    assert all(parameter.grad.isfinite().all() for parameter in job.parameters())
    for parameter in job.parameters():
        parameter.grad = parameter.grad / (norm + greatest)


WAYS = {
    "nothing": lambda job: None,
    "model": lambda job: job.zero_grad(),
    "model to zero": lambda job: job.zero_grad(set_to_none=False),
    "optimizer": lambda job: torch.optim.SGD(job.parameters()).zero_grad(),
    "optimizer to zero": lambda job: torch.optim.SGD(job.parameters()).zero_grad(set_to_none=False),
    "all at once": lambda job: torch.optim.SGD(job.parameters(), foreach=True).zero_grad(set_to_none=False),
    "parameters": lambda job: [setattr(parameter, "grad", None) for parameter in job.parameters()],
    "norm": lambda job: nn.utils.clip_grad_norm_(job.parameters(), 0.5),
    "greatest": lambda job: nn.utils.clip_grad_norm_(job.parameters(), 0.5, norm_type=float("inf")),
    "norm, all at once": lambda job: nn.utils.clip_grad_norm_(job.parameters(), 0.5, foreach=True),
    "values": lambda job: nn.utils.clip_grad_value_(job.parameters(), 0.01),
    "scaler": scaled,
    "by hand": by_hand,
    "in place": lambda job: [parameter.grad.mul_(3) for parameter in job.parameters()],
    "moved": lambda job: job.double().float(),
}


@pytest.mark.parametrize("padding_idx", [None, 4])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_done_to_gradients_is_done_to_those_of_rows(way, padding_idx):
    gradients = []
    for job in twins(padding_idx):
        job.loss(FIRST).backward()
        WAYS[way](job)
        job.loss(SECOND).backward()
        gradients.append((found(job), job.score.weight.grad))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][0].any()


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
def test_the_norm_of_all_gradients_has_those_of_rows(norm_type):
    norms = []
    for job in twins():
        (job.loss(FIRST) + job.item.weight.square().sum() + job.loss(SECOND)).backward()
        norms.append(nn.utils.get_total_norm([parameter.grad for parameter in job.parameters()], norm_type))
    torch.testing.assert_close(*norms)


def test_only_padding_has_the_norm_zero():
    job = twins(4)[0]
    job.item(torch.tensor([4, 4])).sum().backward()
    assert nn.utils.clip_grad_norm_(job.item.parameters(), 0.5, norm_type=float("inf")) == 0
    assert not len(job.item.take_gradient()[0])


def test_infinity_makes_a_scaler_pass_over_the_step():
    job = twins()[0]
    optimizer = RowwiseRMSprop(job)
    before = job.item.integers.clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for factor, moved in ((torch.inf, False), (1.0, True)):
        (scaler.scale(job.loss(FIRST)) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert torch.equal(job.item.integers, before) != moved


OTHERS = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"maximize": True, "weight_decay": 0.1}),
    (torch.optim.Adam, {"foreach": True}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adagrad, {"foreach": True}),
    (torch.optim.Adamax, {}),
    (torch.optim.RMSprop, {"centered": True}),
    (torch.optim.Rprop, {}),
]


@pytest.mark.parametrize(("kind", "options"), OTHERS)
def test_an_optimizer_of_all_parameters_leaves_rows_to_theirs(kind, options):
    states = []
    for all_parameters in (True, False):
        job = twins()[0]
        other = kind(job.parameters() if all_parameters else job.score.parameters(), lr=0.01, **options)
        own = RowwiseRMSprop(job, lr=0.01)
        for ids in (FIRST, SECOND, FIRST):
            job.loss(ids).backward()
            for optimizer in (other, own):
                optimizer.step()
            for optimizer in (other, own):
                optimizer.zero_grad()
        copy.deepcopy(other.state_dict())
        states.append(list(job.state_dict().values()))
    assert all(map(torch.equal, *states))


def test_what_does_not_see_the_rows_is_refused(tmp_path):
    job = twins()[0]
    job.loss(FIRST).backward()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match=r"rows that stay with it, which c10d\.allreduce_\S* does not see"):
            torch.distributed.all_reduce(job.item.anchor.grad)
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(InputError, match=r"which aten\.cat\.default does not see"):
        torch.cat([parameter.grad.flatten() for parameter in job.parameters()])
    before, other = job.item.anchor.grad, twins()[0]
    other.loss(SECOND).backward()
    with pytest.raises(InputError, match="must be of the same rows to be taken together"):
        before + other.item.anchor.grad
    assert repr(before) == "RowGradient(4 rows of 5 values)"


def passes(job, count):
    for _ in range(count):
        job.loss(FIRST).backward()


def test_an_optimizer_that_is_gone_or_never_steps_is_spoken_of(monkeypatch):
    job = Job(nn.Embedding(7, 5))
    adam = torch.optim.Adam(job.parameters())
    compress_module(job, {"item": QuantizedEmbedding(7, 5)}, adam)  # and its report is not heeded
    for _ in range(quantized.MOST_PASSES):
        adam.zero_grad()
        passes(job, 1)
        adam.step()
    with pytest.raises(InputError, match=r"and none is there for this QuantizedEmbedding.*`compress_module"):
        passes(job, 1)
    monkeypatch.setattr(quantized, "MOST_STEPPED", 40)
    job = twins()[0]
    own = RowwiseRMSprop(job)
    passes(job, 40)
    own.step()
    passes(job, 40)
    with pytest.raises(InputError, match=r"gradients of 40 backward passes wait .*which is there and makes none"):
        passes(job, 1)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_copies_of_a_job_begin_without_gradients_and_train_on(copied):
    job = twins()[0]
    own = RowwiseRMSprop(job)
    job.loss(FIRST).backward()
    twin, optimizer = copied((job, own))
    assert twin.item.anchor.grad is None
    passes(twin, quantized.MOST_PASSES + 4)
    optimizer.step()
    assert not torch.equal(twin.item.integers, job.item.integers)
    assert len(job.item.take_gradient()[0])


def test_rows_behind_product_codes_are_clipped_alike():
    torch.manual_seed(0)
    table = ProductCodebookEmbedding(np.arange(7), 5, subspaces=2, centroids=3, row_bits=8)
    table(FIRST).sum().backward()
    assert isinstance(table.latent_weight.anchor.grad, RowGradient)
    assert float(nn.utils.clip_grad_norm_(table.parameters(), 1.0)) == pytest.approx((5 * (1 + 9 + 1 + 1)) ** 0.5)
