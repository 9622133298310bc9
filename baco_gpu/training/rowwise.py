"""RMSprop for tables of few bits: one mean square for a row, and steps that are rounded at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer, check_number
from baco_gpu.codebook.low_precision import LowPrecisionEmbedding
from baco_gpu.errors import InputError
from baco_gpu.training.counters import random_chances

_MOST_COUNTED = 255  # a byte


class RowwiseRMSprop(torch.optim.Optimizer):
    """The optimiser of `LowPrecisionEmbedding`: 5 bytes a row, where Adam has 8 for every value.

    A row that has a gradient g is moved by `-lr * g / (sqrt(v) + eps)`, where v is the mean of the mean squares of the
    row's gradients so far, and, from the 256th on, a moving average that forgets by 1/256 a step. So all values of a
    row have one rate, as with FBGEMM's row-wise optimisers, and there is no momentum. Other rows stay as they are.
    What is stored of a row is rounded up or down at random, and right on average; by the same numbers on every device,
    a function of the seed, the step, the row and the dimension.

    A step takes the gradients from the tables, so that the next backward pass begins anew. Other parameters of a model
    need an optimiser of their own beside this one.

    Parameters
    ----------
    tables : nn.Module or iterable of LowPrecisionEmbedding
        Of a module, all such tables in it.
    lr : float
        The length of the steps of a value; what suits Adam is a good first guess.
    eps : float
    seed : int
        Of the rounding.

    Raises
    ------
    InputError
        When there is no such table, something else is given, or a number is out of its range.
    """

    def __init__(
        self,
        tables: nn.Module | Iterable[LowPrecisionEmbedding],
        lr: float = 5e-3,
        *,
        eps: float = 1e-8,
        seed: int = 0,
    ) -> None:
        given = tables.modules() if isinstance(tables, nn.Module) else list(tables)
        found = [table for table in given if isinstance(table, LowPrecisionEmbedding)]
        if not found or (not isinstance(tables, nn.Module) and len(found) < len(list(given))):
            raise InputError(f"tables must be of LowPrecisionEmbedding, one at least, got {tables!r}")
        self.seed = check_integer("seed", seed, minimum=0)
        self._tables = {table.anchor: table for table in found}
        defaults = {"lr": check_number("lr", lr, above=0.0), "eps": check_number("eps", eps, above=0.0)}
        super().__init__([*self._tables], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for place, anchor in enumerate(group["params"]):
                table = self._tables[anchor]
                rows, gradient = table.take_gradient()
                if len(rows):
                    values = self._moved(table, rows, gradient, group["lr"], group["eps"])
                    step = self.state[anchor]["step"]
                    table.write(rows, values, random_chances(rows, table.embedding_dim, self.seed + place, step))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients that no step has taken."""
        super().zero_grad(set_to_none)
        for table in self._tables.values():
            table.take_gradient()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the `state_dict` of another run."""
        super().load_state_dict(state_dict)
        for anchor in self._tables:  # the base class gives what it loads the dtype of a parameter
            state = self.state[anchor]
            if state:
                state["count"] = state["count"].to(torch.uint8)
                state["step"] = state["step"].to(anchor.device)

    def _state_of(self, table: LowPrecisionEmbedding) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[table.anchor]
        if not state:
            rows, device = table.num_embeddings, table.scales.device
            state["squares"] = torch.zeros(rows, device=device)
            state["count"] = torch.zeros(rows, dtype=torch.uint8, device=device)
            state["step"] = torch.zeros((), dtype=torch.int64, device=device)
        return state

    def _moved(self, table: LowPrecisionEmbedding, rows: Tensor, gradient: Tensor, lr: float, eps: float) -> Tensor:
        """What these rows are to be after a step, whose state is written."""
        state = self._state_of(table)
        state["step"] += 1
        squares, count = state["squares"][rows], state["count"][rows].int() + 1
        squares += (gradient.square().mean(dim=1) - squares) / count
        state["squares"][rows] = squares
        state["count"][rows] = count.clamp_(max=_MOST_COUNTED).to(torch.uint8)
        return table.read(rows).addcmul_(gradient, (squares.sqrt_() + eps).reciprocal_()[:, None], value=-lr)
