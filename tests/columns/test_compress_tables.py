"""compress_tables: many tables of somebody's model, made small under one budget in the middle of a training."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baco_gpu import compress_tables, rebuild_module
from baco_gpu.data.synthetic import planted_clicks
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.tables import TableBag, begin_epoch, finalize
from baco_gpu.tables.embedding_table import Size
from baco_gpu.tables.full import tables_in

pytestmark = pytest.mark.heavy("trains models")

SIZES = (600, 300, 120, 40, 6)
LOG = planted_clicks(8000, SIZES, 6, tied=3, noise=0.1, seed=0)
IDS, CLICKED = torch.as_tensor(LOG.ids).long(), torch.as_tensor(LOG.clicked).float()
DATA = {f"tables.{column}": LOG.ids[:, column] for column in range(len(SIZES))}
SHARED = ("baco-multilevel",)


class Clicks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(size, 16) for size in SIZES])
        self.top = nn.Linear(16, 1)

    def forward(self, ids: Tensor) -> Tensor:
        rows = torch.stack([table(ids[:, column]) for column, table in enumerate(self.tables)], dim=1)
        return self.top(rows.sum(dim=1).square() - rows.square().sum(dim=1)).squeeze(1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    losses = []
    for part in torch.arange(len(IDS)).split(1000):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(IDS[part]), CLICKED[part])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


def trained() -> tuple[Clicks, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Clicks()
    for table in model.tables:
        nn.init.normal_(table.weight, std=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        train(model, optimizer)
    return model, optimizer


TRAINED = trained()


def copied() -> tuple[Clicks, torch.optim.Optimizer]:
    """The trained model and its optimizer, to be changed."""
    return copy.deepcopy(TRAINED)  # together, so that the copy of the one trains the copy of the other


def size_of_tables(model: nn.Module) -> Size:
    return Size.of(part for table in tables_in(model) for part in table.stored())


@pytest.mark.parametrize("methods", [("baco-multilevel", "product"), SHARED, ("product",)], ids="+".join)
@pytest.mark.parametrize("measure", ["bytes", "parameters"])
def test_all_tables_together_cost_what_the_budget_allows_and_train_on(methods: tuple[str, ...], measure: str):
    model, optimizer = copied()
    full = size_of_tables(model)
    report = compress_tables(model, DATA, 0.15, optimizer, budget_measure=measure, methods=methods)
    figure = {"bytes": "nbytes", "parameters": "parameters"}[measure]
    now = getattr(size_of_tables(model), figure)
    assert now == report.plan.cost <= report.plan.budget == int(0.15 * getattr(full, figure))
    assert now > 0.8 * report.plan.budget
    assert repr(report.plan) == f"Plan(5 tables: {now:,} of {report.plan.budget:,} {measure})"
    assert repr(report).startswith("TablesReport(tables.0, ")
    assert len(repr(report)) < 100
    assert report.optimizer is not None
    losses = []
    for _ in range(2):
        begin_epoch(model)
        losses.append(train(model, report.optimizer))
    assert losses[1] < losses[0]
    finalize(model)
    fresh = Clicks()
    rebuild_module(fresh, model.state_dict())
    assert torch.equal(fresh(IDS[:50]), model(IDS[:50]))


def test_the_plan_says_what_became_of_every_table_and_why():
    model, optimizer = copied()
    plan = compress_tables(model, DATA, 0.25, optimizer, methods=SHARED).plan
    assert [table.name for table in plan.tables] == list(DATA)
    assert plan["tables.0"].method == "baco-multilevel"
    assert set(plan["tables.0"].partners) == {"tables.1", "tables.2"}
    assert plan["tables.0"].rows == model.tables[0].num_rows
    assert 0 < plan["tables.0"].error < 1
    assert (plan["tables.3"].method, plan["tables.3"].reason) == ("full", "no column tells 0.01 bits of it")
    assert (plan["tables.4"].method, plan["tables.4"].reason) == ("full", "small")
    lines = str(plan).splitlines()
    assert len(lines) == len(SIZES) + 2
    assert lines[1].startswith("tables.0  600")
    assert "tables.1 (" in lines[1]
    assert lines[-1] == f"{plan.cost:,} of {plan.budget:,} bytes"


def test_the_error_of_the_plan_is_that_of_the_rows_in_the_model():
    model, optimizer = copied()
    before = model.tables[0].weight.detach().double()
    plan = compress_tables(model, DATA, 0.25, optimizer, methods=SHARED).plan
    counts = torch.bincount(IDS[:, 0], minlength=SIZES[0]).double()[:, None]
    mean = (counts * before).sum(dim=0) / counts.sum()
    after = model.tables[0].weight.detach().double()
    left = (counts * (before - after).square()).sum() / (counts * (before - mean).square()).sum()
    assert plan["tables.0"].error == pytest.approx(float(left), rel=1e-5)


def test_rows_go_to_the_table_whose_rows_differ_most():
    plans = []
    for scale in (0.01, 100.0):
        model, _ = copied()
        with torch.no_grad():
            model.tables[1].weight *= scale
        plans.append(compress_tables(model, DATA, 0.25, methods=SHARED).plan)
    assert plans[0]["tables.1"].rows < plans[1]["tables.1"].rows
    assert plans[0]["tables.0"].rows > plans[1]["tables.0"].rows


def test_the_same_seed_gives_the_same_tables():
    states = []
    for _ in range(2):
        model, optimizer = copied()
        compress_tables(model, DATA, 0.2, optimizer, seed=3)
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_items_of_sequences_are_clustered_by_the_sequences_that_they_share():
    generator = np.random.default_rng(0)
    sequences = 1 + generator.integers(0, 5, 1000)[:, None] + 5 * generator.integers(0, 30, (1000, 8))
    sequences[::3, 5:] = 0  # padding
    model = nn.ModuleDict({"item": nn.Embedding(151, 16, padding_idx=0)})
    report = compress_tables(model, {"item": sequences}, 0.2, methods=SHARED)
    assert list(report.plan["item"].partners) == ["its own sequences"]
    labels = model["item"].assignments[1:].numpy()
    shared = [np.unique(np.arange(150)[labels == label] % 5).size for label in np.unique(labels)]
    assert np.mean(shared) < 1.5, "rows are shared by ids of one planted kind"
    assert not model["item"](torch.tensor([0])).any()


def test_bags_are_replaced_as_well():
    model = nn.ModuleDict({"user": nn.Embedding(600, 16), "seen": nn.EmbeddingBag(300, 16, mode="sum")})
    bags = (LOG.ids[:, 1], np.arange(len(LOG.ids)))
    report = compress_tables(model, {"user": LOG.ids[:, 0], "seen": bags}, 0.15)
    assert report.plan.cost <= report.plan.budget
    assert isinstance(model["seen"], TableBag)
    assert model["seen"](torch.tensor([[3, 4], [5, 5]])).shape == (2, 16)


def sparse() -> nn.Module:
    return nn.ModuleDict({"user": nn.Embedding(600, 16, sparse=True), "item": nn.Embedding(300, 16)})


def with_nan() -> nn.Module:
    model = sparse()
    with torch.no_grad():
        model["item"].weight[7, 1] = float("nan")
    return model


def tied() -> nn.Module:
    model = sparse()
    model["other"] = model["item"]
    return model


USER, ITEM = {"user": LOG.ids[:, 0]}, {"item": LOG.ids[:, 1]}


@pytest.mark.parametrize(
    ("make", "data", "options", "told"),
    [
        (
            sparse,
            {"city": [1]},
            {},
            "data must name an nn.Embedding or nn.EmbeddingBag, got 'city'; the tables of this",
        ),
        (sparse, {"user": [600]}, {"methods": SHARED}, "data of 'user' must be from 0 to 599"),
        (sparse, USER, {}, "methods must be ('baco-multilevel',) for 'user', whose gradients are sparse"),
        (with_nan, ITEM, {}, "rows of 'item' must be finite, got NaN or infinity"),
        (tied, {**ITEM, "other": LOG.ids[:, 1]}, {}, "data must name a table once, got 'item' and 'other'"),
        (sparse, ITEM, {"budget": 100}, "budget must be a share of the tables, from 0 to 1, got 100 rows"),
        (sparse, ITEM, {"budget": 0.0}, "budget must be a finite number above 0"),
        (sparse, ITEM, {"budget_measure": "rows"}, "budget_measure must be one of 'parameters', 'bytes'"),
        (
            sparse,
            ITEM,
            {"methods": "product"},
            "methods must be a sequence of 'baco-multilevel', 'product', 'trellis', got 'pro",
        ),
        (
            sparse,
            ITEM,
            {"methods": ("leiden",)},
            "methods must be one of 'baco-multilevel', 'product', 'trellis', got 'leiden'",
        ),
        (sparse, ITEM, {"seed": -1}, "seed must be an integer at least 0"),
        (lambda: 3, ITEM, {}, "model must be a torch.nn.Module, got int"),
    ],
)
def test_bad_input_is_refused_by_name_before_any_work(
    make: Any, data: Any, options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("baco_gpu.columns.tables_compression.choose", lambda *_: pytest.fail("work began"))
    with pytest.raises(InputError) as caught:
        compress_tables(make(), data, **options)
    assert str(caught.value).startswith(told)


def test_a_budget_below_what_the_cheapest_ways_cost_is_refused_with_one_that_is_enough():
    model, optimizer = copied()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnreachableBudgetError) as caught:
        compress_tables(model, DATA, 0.01, optimizer, methods=SHARED)
    told = re.fullmatch(r"budget must be at least (0\.\d+) of these tables, got 0.01", str(caught.value))
    assert told is not None
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    plan = compress_tables(model, DATA, float(told[1]), optimizer, methods=SHARED).plan
    assert plan.cost <= plan.budget
