"""A training step, one by one or from a CUDA graph that holds all its launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from baco_gpu.models.losses import Objective
from baco_gpu.models.model import Model
from baco_gpu.training.row_steps import RowStep, moves_rows_alone

# Steps before a capture: they create Adam's state, compile kernels and fill the caches of libraries, none of which a
# capture may do.
_WARM_UP = 3


class TrainingStep:
    """Loss, gradients and Adam on a batch, (columns, batch, ...); losses are added up on the device, unread."""

    def __init__(self, model: Model, optimizer: Optimizer, objective: Objective) -> None:
        self.model = model
        self.optimizer = optimizer
        self.objective = objective
        self.total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)

    def begin(self) -> None:
        """Before the batches of an epoch."""
        self.total.zero_()

    def __call__(self, batch: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(batch, self.objective)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach() * batch.shape[1]

    def end(self) -> None:
        """After the batches of an epoch, also of one that an error ends."""


class Recorder(Protocol):
    """What runs work beside the current stream, and records it to be run again."""

    def aside(self, work: Callable[[], None]) -> None:
        """Run the work now, on the stream that recordings are made on."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work without running it; the function that is returned runs it."""


class GraphRecorder:
    """Records into CUDA graphs, on a stream of a device, which need not be the current one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def aside(self, work: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay


class RecordedStep:
    """A `TrainingStep` whose launches are recorded once and then run together.

    The first batches are trained as they come, which warms up what a recording must find warm; the next one is recorded
    and run, and so are all that follow. A smaller batch, the last of an epoch, is trained as it comes. So a recording
    changes what a step costs and nothing else.

    A recording holds addresses and numbers. Where an epoch finds other ones (a callback has changed codes, learning
    rate or the optimizer's state), it is made anew.
    """

    def __init__(self, step: TrainingStep, recorder: Recorder) -> None:
        self.step = step
        self.total = step.total
        self._recorder = recorder
        self._batch: Tensor | None = None
        self._replay: Callable[[], None] | None = None
        self._warm = 0
        self._known: list[Any] = []

    def begin(self) -> None:
        """Before the batches of an epoch."""
        self.step.begin()
        for group in self.step.optimizer.param_groups:
            group["capturable"] = True  # the state of a run that was not recorded says otherwise, once it is loaded
        if self._replay is not None and self._facts() != self._known:
            self._replay, self._warm = None, 0

    def __call__(self, batch: Tensor) -> None:
        if self._batch is None:
            self._batch = torch.empty_like(batch)
        if batch.shape != self._batch.shape:
            self.step(batch)
            return
        self._batch.copy_(batch)
        if self._replay is None and self._warm < _WARM_UP:
            self._warm += 1
            self._recorder.aside(self._work)
            return
        if self._replay is None:
            self._replay = self._recorder.record(self._work)
            self._known = self._facts()
        self._replay()

    def end(self) -> None:
        """After the batches of an epoch, also of one that an error ends."""

    def _work(self) -> None:
        assert self._batch is not None
        self.step(self._batch)

    def _facts(self) -> list[Any]:
        """What a recording depends on: where tensors are, the versions of those no step writes, and Adam's numbers."""
        model, optimizer = self.step.model, self.step.optimizer
        numbers = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        state = [value for one in optimizer.state.values() for value in one.values() if isinstance(value, Tensor)]
        written = [tensor.data_ptr() for tensor in (*model.parameters(), *state)]
        return [numbers, written, [(buffer.data_ptr(), buffer._version) for buffer in model.buffers()]]


Step = TrainingStep | RecordedStep | RowStep


def training_step(model: Model, optimizer: Optimizer, objective: Objective, cuda_graph: bool) -> Step:
    """The step of a run: of the rows that a batch reads alone, where nothing else is read or moved.

    With `cuda_graph` it is one that is recorded, for which Adam must be `capturable`.
    """
    if moves_rows_alone(model, optimizer):
        return RowStep(model, optimizer, objective)
    step = TrainingStep(model, optimizer, objective)
    return RecordedStep(step, GraphRecorder(step.total.device)) if cuda_graph else step
