"""Recorded steps: the batches that are trained as they come, the one that is recorded, what makes a recording stale."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.models import build_model, full_table
from baco_gpu.tables import CodebookEmbedding
from baco_gpu.training import Objective, TripleSampler, reset_embeddings, steps
from baco_gpu.training.steps import RecordedStep, TrainingStep, training_step

pytestmark = pytest.mark.heavy("trains models")

USERS, ITEMS, BATCH = 30, 20, 16
OBJECTIVE = Objective("bpr")


class Adam(torch.optim.Adam):
    """Adam that may be told to be capturable on a CPU, which PyTorch refuses, and takes no notice."""

    def step(self, closure=None):
        told = [group["capturable"] for group in self.param_groups]
        for group in self.param_groups:
            group["capturable"] = False
        super().step(closure)
        for group, capturable in zip(self.param_groups, told, strict=True):
            group["capturable"] = capturable


class FakeRecorder:
    """Does with a step what CUDA would, on the CPU: a recording runs what was recorded, and nothing when it is made."""

    def __init__(self, device=None):
        self.device = device
        self.log = []

    def aside(self, work):
        self.log.append("aside")
        work()

    def record(self, work):
        self.log.append("record")

        def replay():
            self.log.append("replay")
            work()

        return replay


def split():
    rng = np.random.default_rng(0)
    part = Interactions(rng.integers(0, USERS, 6 * BATCH + 5), rng.integers(0, ITEMS, 6 * BATCH + 5), USERS, ITEMS)
    return SplitInteractions(part, part.take(np.arange(3)), part.take(np.arange(3)))


def trained(method, recorder, *, loss="bpr", epochs=2, between=lambda model, optimizer: None):
    """The weights and the losses of epochs, through a recorder where there is one."""
    data = split()
    users = CodebookEmbedding(np.arange(USERS) % 7, 4, np.arange(USERS) % 5)
    model = build_model(method, {"users": users, "items": full_table(ITEMS, 4)}, data)
    reset_embeddings(model, 0.1, seed=0)
    optimizer = Adam(model.parameters(), lr=0.05)
    step = TrainingStep(model, optimizer, Objective(loss, BATCH // 2, 1e-3))
    if recorder is not None:
        step = RecordedStep(step, recorder)
    sampler, losses = TripleSampler(data.train, BATCH), []
    for epoch in range(epochs):
        step.begin()
        for batch in sampler.epoch(epoch):
            step(batch)
        losses.append(float(step.total))
        between(model, optimizer)
    return [losses, *(parameter.detach().tolist() for parameter in model.parameters())]


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("method", ["mf", "lightgcn"])
def test_a_recorded_run_trains_on_the_same_batches(method, loss):
    recorder = FakeRecorder()
    assert trained(method, recorder, loss=loss) == trained(method, None, loss=loss)
    # Six whole batches an epoch and a part: three to warm up, and the part is never recorded.
    assert recorder.log == ["aside"] * 3 + ["record"] + ["replay"] * 3 + ["replay"] * 6


def change_codes(model, optimizer):
    model.user_embedding.assignments.copy_(model.user_embedding.assignments.flip(0))


def replace_codes(model, optimizer):
    model.user_embedding.assignments = model.user_embedding.assignments.clone()


def change_rate(model, optimizer):
    optimizer.param_groups[0]["lr"] /= 2


def replace_state(model, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("between", [change_codes, replace_codes, change_rate, replace_state])
def test_what_changes_between_epochs_is_recorded_anew(between):
    recorder = FakeRecorder()
    assert trained("mf", recorder, epochs=3, between=between) == trained("mf", None, epochs=3, between=between)
    assert recorder.log == (["aside"] * 3 + ["record"] + ["replay"] * 3) * 3


def test_weights_that_change_in_place_need_no_new_recording():
    def halve(model, optimizer):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)

    recorder = FakeRecorder()
    assert trained("mf", recorder, between=halve) == trained("mf", None, between=halve)
    assert recorder.log.count("record") == 1


def test_adam_stays_capturable_whatever_state_is_loaded():
    model = build_model("mf", {"users": full_table(USERS, 2), "items": full_table(ITEMS, 2)}, split())
    optimizer = Adam(model.parameters())
    step = RecordedStep(TrainingStep(model, optimizer, OBJECTIVE), FakeRecorder())
    step.begin()
    optimizer.load_state_dict(torch.optim.Adam(model.parameters()).state_dict())
    assert not optimizer.param_groups[0]["capturable"]
    step.begin()
    assert optimizer.param_groups[0]["capturable"]


def test_the_step_of_a_run_is_recorded_where_it_is_asked_for(monkeypatch):
    model = build_model("lightgcn", {"users": full_table(USERS, 2), "items": full_table(ITEMS, 2)}, split())
    optimizer = torch.optim.Adam(model.parameters())
    monkeypatch.setattr(steps, "GraphRecorder", FakeRecorder)
    assert isinstance(training_step(model, optimizer, OBJECTIVE, False), TrainingStep)
    recorded = training_step(model, optimizer, OBJECTIVE, True)
    assert isinstance(recorded, RecordedStep)
    assert isinstance(recorded._recorder, FakeRecorder)
    assert recorded._recorder.device == next(model.parameters()).device


def test_a_graph_is_recorded_on_the_stream_that_warmed_up(monkeypatch):
    """The calls that PyTorch asks for, in order, for a model on the second device, on a CUDA that takes them down."""
    log, second = [], torch.device("cuda", 1)

    class Stream:
        def __init__(self, device, name="side"):
            assert device == second
            self.name = name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    class Using:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            log.append(f"enter {self.name}")

        def __exit__(self, *_):
            log.append(f"leave {self.name}")

    class Graph:
        def replay(self):
            log.append("replay")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(device, "current"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: Using(str(device)))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: Using(stream.name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: Using(f"graph on {stream.name}"))
    recorder = steps.GraphRecorder(second)
    recorder.aside(lambda: log.append("work"))
    replay = recorder.record(lambda: log.append("work"))
    replay()
    aside = ["side waits for current", "enter side", "work", "leave side", "current waits for side"]
    recorded = ["enter cuda:1", "enter graph on side", "work", "leave graph on side", "leave cuda:1"]
    assert log == [*aside, *recorded, "replay"]
