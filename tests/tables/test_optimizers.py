"""CombinedOptimizer: several optimizers as one of PyTorch's."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from baco_gpu import QuantizedEmbedding, RowwiseRMSprop, compress_module, training
from baco_gpu.errors import InputError
from baco_gpu.training import CombinedOptimizer

pytestmark = pytest.mark.heavy("trains models")


class Job(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.score, self.bias = QuantizedEmbedding(5, 4), nn.Linear(4, 1), nn.Linear(1, 1)

    def loss(self, step: int) -> torch.Tensor:
        ids = torch.randint(5, (3,), generator=torch.Generator().manual_seed(step))
        return self.bias(self.score(self.table(ids))).square().sum()


def optimizers(job: Job) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.Adam(job.score.parameters(), lr=0.1),
        RowwiseRMSprop(job, lr=0.02),
        torch.optim.SGD(job.bias.parameters(), lr=0.01, momentum=0.9),
    ]


def backward_of(job, step):
    job.loss(step).backward()
    return 2.5


def steps(job, optimizer, first, last, scheduler=None):
    for step in range(first, last):
        optimizer.zero_grad()
        job.loss(step).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def test_a_combined_step_is_a_step_of_each():
    one, other = Job(), Job()
    apart, together = optimizers(one), CombinedOptimizer(optimizers(other))
    assert isinstance(together, torch.optim.Optimizer)
    for step in range(4):
        for optimizer in apart:
            optimizer.zero_grad()
        one.loss(step).backward()
        for optimizer in apart:
            optimizer.step()
        together.zero_grad()
        assert together.step(functools.partial(backward_of, other, step)) == 2.5
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_it_goes_on_from_its_state(way):
    straight, halted = Job(), Job()
    optimizer = CombinedOptimizer(optimizers(straight))
    steps(straight, optimizer, 0, 6)
    first = CombinedOptimizer(optimizers(halted))
    steps(halted, first, 0, 3)
    if way == "state_dict":
        resumed = copy.deepcopy(halted)
        second = CombinedOptimizer(optimizers(resumed))
        second.load_state_dict(copy.deepcopy(first.state_dict()))
    else:
        pair = (halted, first)
        resumed, second = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    steps(resumed, second, 3, 6)
    assert all(map(torch.equal, straight.state_dict().values(), resumed.state_dict().values()))
    assert len(second.state) == 5
    with pytest.raises(InputError, match="state_dict must have 3 groups of parameters, got 1"):
        second.load_state_dict(torch.optim.SGD(Job().score.parameters(), lr=1.0).state_dict())


def test_schedulers_change_the_rates_of_all():
    job = Job()
    optimizer = CombinedOptimizer(optimizers(job))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    steps(job, optimizer, 0, 2, scheduler)
    assert [group["lr"] for each in optimizer.optimizers for group in each.param_groups] == [0.025, 0.005, 0.0025]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    for _ in range(2):
        plateau.step(1.0)
    assert optimizer.optimizers[1].param_groups[0]["lr"] == pytest.approx(0.0005)


SCHEDULERS = {
    "StepLR": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    "ReduceLROnPlateau": torch.optim.lr_scheduler.ReduceLROnPlateau,
    "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=9, cycle_momentum=False
    ),
}


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_that_would_not_set_the_rates_of_tables_is_refused(name, combined):
    model = nn.ModuleDict({"item": nn.Embedding(5, 4), "user": nn.Embedding(5, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = CombinedOptimizer([optimizer]) if combined else optimizer
    scheduler = SCHEDULERS[name](optimizer.optimizers[0] if combined else optimizer)
    compress_module(model, {"user": [0, 1, 0, 1, 0]}, optimizer)  # which the optimizer trains itself
    before = model["item"]
    with pytest.raises(InputError, match=f"optimizer must have no scheduler .*, got {name}: delete it, and make one"):
        compress_module(model, {"item": QuantizedEmbedding(5, 4)}, optimizer)
    assert model["item"] is before
    scheduler.around = [scheduler]  # so that it waits for the collector
    del scheduler
    report = compress_module(model, {"item": QuantizedEmbedding(5, 4)}, optimizer)
    SCHEDULERS[name](report.optimizer)
    assert len(report.optimizer.param_groups) == 2


def test_mistakes_are_named_and_the_old_name_is_known():
    with pytest.raises(InputError, match=r"optimizers must be of torch\.optim.Optimizer, one at least, got none"):
        CombinedOptimizer([])
    with pytest.raises(InputError, match="got str"):
        CombinedOptimizer(["adam"])
    with pytest.raises(InputError, match="before they are combined"):
        CombinedOptimizer(optimizers(Job())).add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.warns(FutureWarning, match="Together is called CombinedOptimizer now"):
        assert training.Together is CombinedOptimizer
