"""A training step of the rows that a batch reads, and no others: what these miss, they make up for when next read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from baco_gpu.models.losses import Objective
from baco_gpu.models.model import ITEMS, USERS, Model
from baco_gpu.ops.reference import check_range
from baco_gpu.parallel import in_parts
from baco_gpu.tables.embedding_table import EmbeddingTable

_CHUNK = 1 << 10  # steps that are known ahead
_HORIZON = 1 << 9  # steps after which nothing is left of a first moment
_PLAIN = {"betas": (0.9, 0.999), "amsgrad": False, "maximize": False, "weight_decay": 0}  # of the groups of Adam
_PARALLEL = 1 << 14  # values of rows for which a second thread is worth waking


class RowStep:
    """Loss, gradients and Adam on a batch of triples, (3, batch), in the time that the rows of the batch take.

    A row without a gradient is moved by Adam all the same, by what is left of its moments: `k` steps in a row by a
    multiple of `first / sqrt(second)`, a geometric sum, which is known ahead. So a row is moved by all of them at once
    when it is next read, and a step reads and writes no other rows. Every step sees the rows that Adam would have made,
    to rounding: all that is left out is that `eps` weighs more beside second moments as these fade.

    Between `begin` and `end`, tables and Adam's moments lag behind; after `end` they are what Adam would have made.
    Any number of threads gives the same bits.

    Parameters
    ----------
    model : Model
    optimizer : torch.optim.Adam
        Of which `moves_rows_alone` is true.
    objective : Objective
    """

    def __init__(self, model: Model, optimizer: Optimizer, objective: Objective) -> None:
        self.objective = objective
        self.total = 0.0
        self._tables = _tables_of(model)
        self._optimizer = optimizer
        self._vectors = torch.empty((0, 0))
        self._sides: list[_Side] = []
        self._moving: list[_MovingRows] = []

    def begin(self) -> None:
        """Before the batches of an epoch."""
        self.total = 0.0
        group = self._optimizer.param_groups[0]
        by_rows: dict[Tensor, _MovingRows] = {}
        self._sides = []
        for table in self._tables:
            rows = table.float_rows
            if rows not in by_rows:
                by_rows[rows] = _MovingRows(rows, self._optimizer.state[rows], group)
            self._sides.append(_Side.of(table, by_rows[rows]))
        self._moving = list(by_rows.values())

    def __call__(self, batch: Tensor) -> None:
        users, chosen, others = batch
        ids = [users, self.objective.items_of(chosen, others).reshape(-1)]
        count, length = len(users), sum(map(len, ids))
        if len(self._vectors) < length:  # kept, since memory that is new is slow
            self._vectors = torch.empty((length, self._tables[0].embedding_dim))
        parts = self._vectors[:count], self._vectors[count:length]
        reads = [side.read(*given) for side, *given in zip(self._sides, ids, parts, (0, count), strict=True)]
        self.total += self.objective.differentiate_(*parts) * count
        for moving in self._moving:
            own = [read for side, read in zip(self._sides, reads, strict=True) if side.moving is moving]
            moving.move(own, self._vectors)

    def end(self) -> None:
        """After the batches of an epoch, also of one that an error ends."""
        for moving in self._moving:
            moving.settle()
        self._sides, self._moving = [], []


def moves_rows_alone(model: Model, optimizer: Optimizer) -> bool:
    """Whether a step of Adam on a CPU is one of rows that lookups read, of float32, and of nothing else."""
    if not model.scores_rows or type(optimizer) is not torch.optim.Adam:
        return False
    tables = model.tables.values()
    if not all(getattr(table, "sums_rows", False) for table in tables):  # which `nn.Embedding` does not say
        return False
    rows = {table.float_rows for table in _tables_of(model)}
    alone = rows == {parameter for group in optimizer.param_groups for parameter in group["params"]}
    plain = all(group[name] == value for group in optimizer.param_groups for name, value in _PLAIN.items())
    return (
        alone
        and plain
        and all(
            each.requires_grad and each.dtype == torch.float32 and each.device.type == "cpu" and each.is_contiguous()
            for each in rows
        )
    )


def _tables_of(model: Model) -> list[Any]:
    return [model.tables[name] for name in (USERS, ITEMS)]


class _Read(NamedTuple):
    """The rows that a batch reads of a table, where in the batch, and its shares of them."""

    rows: np.ndarray
    places: np.ndarray
    weights: np.ndarray


class _Side(NamedTuple):
    """Users or items: what rows every id has, arrays of shape (num_embeddings, rows an id), and these rows."""

    numbers: np.ndarray
    shares: np.ndarray
    moving: _MovingRows

    @classmethod
    def of(cls, table: EmbeddingTable, moving: _MovingRows) -> _Side:
        parts = table.row_parts()
        shape = table.num_embeddings, len(parts)
        numbers, shares = torch.empty(shape, dtype=torch.int32), torch.empty(shape)
        for place, (own, share) in enumerate(parts):
            numbers[:, place] = own
            shares[:, place] = share.squeeze(1) if isinstance(share, Tensor) else share
        return cls(numbers.numpy(), shares.numpy(), moving)

    def read(self, ids: Tensor, vectors: Tensor, first: int) -> _Read:
        """Fill in the embeddings of these ids, which are the vectors of a batch from the `first` on."""
        check_range("indices", ids, len(self.numbers))
        shape = len(ids), self.numbers.shape[1]
        rows, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
        self.moving.gather(ids, self.numbers, self.shares, vectors, rows, weights)
        places = np.arange(first, first + len(ids), dtype=np.int32)
        return _Read(rows.ravel(), np.repeat(places, shape[1]), weights.ravel())


class _MovingRows:
    """A parameter whose rows lag behind, its state of Adam, and what is known ahead of rows that are not moved."""

    def __init__(self, parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        self._steps, self._first, self._now = state["step"], int(state["step"]), 0
        self._rate, (self._beta, self._beta_square), self._eps = float(group["lr"]), group["betas"], group["eps"]
        self._tensors = parameter, state["exp_avg"], state["exp_avg_sq"]
        self._values, self._quotients, self._roots = (tensor.detach().numpy() for tensor in self._tensors)
        self._moved = np.zeros(len(parameter), np.int32)
        self._heads = np.full(len(parameter), -1, np.int32)
        self._know(_CHUNK)
        self._run("begin", len(parameter), self._quotients, self._roots, self._epsilons[0])

    def _know(self, steps: int) -> None:
        """Know what becomes of rows in up to so many steps."""
        ages = np.arange(steps + 1)
        left = np.where(ages <= _HORIZON, self._beta ** np.minimum(ages, _HORIZON), 0)  # no subnormal numbers
        self._decays, self._square_decays = left.astype(np.float32), (self._beta_square**ages).astype(np.float32)
        self._fades = left / np.sqrt(self._beta_square**ages)
        # Steps are longer for moments that began at zero.
        numbers = self._first + np.arange(1, steps + _HORIZON + 1)
        scales = np.sqrt(1 - self._beta_square**numbers)
        self._rates = self._rate * scales / (1 - self._beta**numbers)
        eps = np.concatenate(([np.sqrt(1 - self._beta_square**self._first) or 1], scales[:steps]))
        self._epsilons = (self._eps * eps).astype(np.float32)
        # From the last step to the first: what is beyond the last few has faded away.
        fade = self._fades[1]
        total, tails = self._rates[-1] * fade / (1 - fade), np.empty(steps + 1)
        for step in range(steps + _HORIZON - 1, -1, -1):
            total = fade * (self._rates[step] + total)
            if step <= steps:
                tails[step] = total
        self._tails = tails

    def gather(
        self,
        ids: Tensor,
        numbers: np.ndarray,
        shares: np.ndarray,
        vectors: Tensor,
        rows: np.ndarray,
        weights: np.ndarray,
    ) -> None:
        """Read the embeddings of these ids as of now: see the loop."""
        table = self._values, self._quotients, self._moved, self._now, self._tails, self._fades
        ids = ids.contiguous()
        self._run("gather", rows.size, ids.numpy(), numbers, shares, *table, vectors.numpy(), rows, weights)

    def move(self, reads: Sequence[_Read], gradients: Tensor) -> None:
        """Make a step of the rows that were read, by the gradients of the vectors of the batch."""
        if self._now == len(self._tails) - 1:
            self._know(2 * self._now)
        self._now += 1
        joined = reads[0] if len(reads) == 1 else [np.concatenate(arrays) for arrays in zip(*reads, strict=True)]
        rows, places, weights = joined
        self._run(
            "move",
            len(rows),
            *(rows, places, weights, gradients.numpy(), self._heads, np.empty(len(rows), np.int32)),
            *(self._values, self._quotients, self._roots, self._moved, self._now, self._tails, self._fades),
            *(self._decays, self._square_decays, self._epsilons),
            (np.float32(1 - self._beta), np.float32(1 - self._beta_square)),
            np.float32(self._rates[self._now - 1]),
        )

    def settle(self) -> None:
        """Let all rows, and the state, be what Adam has made of them."""
        table = self._values, self._quotients, self._roots, self._moved, self._now, self._tails, self._fades
        self._run("settle", len(self._values), *table, self._decays, self._square_decays, self._epsilons)
        self._steps += self._now
        torch.autograd.graph.increment_version(self._tensors)  # of writes that PyTorch has not seen

    def _run(self, loop: str, rows: int, *arguments: Any) -> None:
        from baco_gpu.training import row_loops  # and Numba, which training on a GPU can do without

        threads = torch.get_num_threads() if rows * self._values.shape[1] >= _PARALLEL else 1
        in_parts(getattr(row_loops, loop), threads, *arguments)
