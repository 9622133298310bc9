"""Whole training steps on the kernels, run on the CPU: the weights of plain PyTorch, and no wait for the device."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.models import build_model, full_table
from baco_gpu.ops import kernels, reference, segments
from baco_gpu.tables import CodebookEmbedding
from baco_gpu.training import Objective, TripleSampler, reset_embeddings
from baco_gpu.training.steps import TrainingStep
from cuda_host.host import ON_KERNELS, host_launcher
from waiting import WaitsForTheDevice

pytestmark = ON_KERNELS

USERS, ITEMS, BATCH = 90, 60, 64


@pytest.fixture
def launch(monkeypatch):
    """The operators on kernels, in the place of PyTorch's operations."""
    launch = host_launcher(seed=8, interrupt=7)
    for name in ("lookup", "lookup_gradient", "lookup_row_gradients", "expand", "collapse"):
        monkeypatch.setattr(reference, name, functools.partial(getattr(kernels, name), launch))
    for name in ("gathered_sums", "gathered_sums_at"):
        monkeypatch.setattr(segments, name, functools.partial(getattr(kernels, name), launch))
    return launch


def data():
    rng = np.random.default_rng(1)
    part = Interactions(rng.integers(0, USERS, 600), rng.integers(0, ITEMS, 600), USERS, ITEMS)
    return SplitInteractions(part, part.take(np.arange(3)), part.take(np.arange(3)))


def step_of(method, split, loss):
    rng = np.random.default_rng(2)
    tables = CodebookEmbedding(rng.integers(0, 15, USERS), 8, padding_idx=3), full_table(ITEMS, 8)
    if method == "lightgcn":
        codes = np.concatenate([np.arange(20), rng.integers(0, 20, ITEMS - 20)])
        tables = tables[0], CodebookEmbedding(codes, 8, rng.integers(0, 20, ITEMS))
    model = build_model(method, dict(zip(("users", "items"), tables, strict=True)), split)
    reset_embeddings(model, 0.1, seed=0)
    return TrainingStep(
        model,
        torch.optim.Adam(model.parameters(), lr=0.01, fused=True),
        Objective(loss, BATCH // 2, 1e-3),
    )


def epoch(method, loss):
    """The loss of an epoch, and the weights after it."""
    split = data()
    step = step_of(method, split, loss)
    step.begin()
    for batch in TripleSampler(split.train, BATCH).epoch(1):
        step(batch)
    return float(step.total), [parameter.detach().clone() for parameter in step.model.parameters()]


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
@pytest.mark.parametrize(
    ("method", "kernels"),
    [
        ("mf", {"codebook_rows", "codebook_keys", "row_sums"}),
        ("lightgcn", {"codebook_rows", "row_sums", "piece_sums", "finish_sums"}),
    ],
)
def test_an_epoch_on_the_kernels_gives_the_weights_of_plain_pytorch(request, method, kernels, loss):
    wanted, weights = epoch(method, loss)
    launch = request.getfixturevalue("launch")
    found, on_kernels = epoch(method, loss)
    assert {name.partition("<")[0] for name in launch.launched} == kernels
    assert found == pytest.approx(wanted, rel=1e-6)
    for mine, theirs in zip(on_kernels, weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("launch")
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_a_step_does_not_wait_for_the_device(method, loss):
    split = data()
    step = step_of(method, split, loss)
    first, second = list(TripleSampler(split.train, BATCH).epoch(1))[:2]
    step(first)  # lists the members of every row
    with WaitsForTheDevice() as mode:
        step(second)
    assert mode.count == 0
