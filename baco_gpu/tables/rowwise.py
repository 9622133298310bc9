"""RMSprop for tables of few bits: one mean square for a row, and steps that are rounded at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer, check_number, listed, shown
from baco_gpu.cuda.launch import Launcher
from baco_gpu.cuda.plan import WARP, shared_grid
from baco_gpu.errors import BacoError, InputError
from baco_gpu.ops.counters import odd_words, random_chances
from baco_gpu.ops.dispatch import launcher_of
from baco_gpu.ops.quantization import pack, unpack
from baco_gpu.precision import least_scale, midpoint, scale_values

KERNEL_LEVELS = {8: "unsigned char", 16: "unsigned short"}  # of the bits that there is a kernel for, what holds a value
_MOST_COUNTED = 255  # a byte


# The greatest value of a gradient: a mean of squares is to be a finite float32.
GREATEST_GRADIENT = 1.8e19


class NonFiniteGradientError(BacoError, ArithmeticError):
    """A gradient is NaN, infinite or beyond `GREATEST_GRADIENT`; no row of any table has been moved."""


class IntegerRows(Protocol):
    """What the optimizer asks of a table of few bits (`QuantizedEmbedding`)."""

    num_embeddings: int
    embedding_dim: int
    bits: int
    integers: Tensor
    scales: Tensor
    anchor: nn.Parameter

    def read_rows(self, rows: Tensor | None = None) -> Tensor: ...
    def write(self, rows: Tensor, values: Tensor, chances: Tensor | None = None) -> None: ...
    def take_gradient(self) -> tuple[Tensor, Tensor]: ...
    def trained_by(self, optimizer: torch.optim.Optimizer) -> None: ...


class Move(NamedTuple):
    """A step of some rows of a table.

    Attributes
    ----------
    table : QuantizedEmbedding
    state : dict of Tensor
        Of the optimiser: "squares", "count" and "step".
    rows : int64 tensor of distinct rows
    gradient : float32 tensor of shape (number of rows, dim)
    odd : int32 tensor of shape (dim,), from `odd_words`
    lr, eps : float
    seed : int
        Of the rounding.
    """

    table: IntegerRows
    state: dict[str, Tensor]
    rows: Tensor
    gradient: Tensor
    odd: Tensor
    lr: float
    eps: float
    seed: int


class RowwiseRMSprop(torch.optim.Optimizer):
    """The optimiser of `QuantizedEmbedding`: 5 bytes a row, where Adam has 8 for every value.

    A row that has a gradient g is moved by `-lr * g / (sqrt(v) + eps)`, where v is the mean of the mean squares of the
    row's gradients so far, and, from the 256th on, a moving average that forgets by 1/256 a step. So all values of a
    row have one rate, as with FBGEMM's row-wise optimisers, and there is no momentum. Other rows stay as they are.
    What is stored of a row is rounded up or down at random, and right on average; by the same numbers on every device,
    a function of the seed, the step, the row and the dimension.

    A step takes the gradients from the tables, so that the next backward pass begins anew. Other parameters of a model
    need an optimiser of their own beside this one. Where a gradient is NaN, infinite or beyond 1.8e19, the step raises
    `NonFiniteGradientError` before it moves a row, and the gradients are forgotten: integers could not show it.

    Parameters
    ----------
    tables : nn.Module or iterable of QuantizedEmbedding
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
        tables: nn.Module | Iterable[IntegerRows],
        lr: float = 5e-3,
        *,
        eps: float = 1e-8,
        seed: int = 0,
    ) -> None:
        given = listed(tables.modules() if isinstance(tables, nn.Module) else tables)
        found = [cast("IntegerRows", table) for table in given if hasattr(table, "take_gradient")]
        if not found or (not isinstance(tables, nn.Module) and len(found) < len(given)):
            raise InputError(f"tables must be of QuantizedEmbedding, one at least, got {shown(tables)}")
        self.seed = check_integer("seed", seed, minimum=0, maximum=2**63 - 2)
        self._tables = {table.anchor: table for table in found}
        self._odd: dict[Tensor, Tensor] = {}
        defaults = {"lr": check_number("lr", lr, above=0.0), "eps": check_number("eps", eps, above=0.0)}
        super().__init__([*self._tables], defaults)
        for table in found:
            table.trained_by(self)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        taken = {anchor: table.take_gradient() for anchor, table in self._tables.items()}
        for anchor, (rows, gradient) in taken.items():
            _check_gradient(self._tables[anchor], rows, gradient)
        for group in self.param_groups:
            for place, anchor in enumerate(group["params"]):
                table, (rows, gradient) = self._tables[anchor], taken[anchor]
                if not len(rows):
                    continue
                state = self._state_of(table)
                state["step"] += 1
                seed = self.seed + place
                odd = self._odd_of(table, seed)
                move = Move(table, state, rows, gradient, odd, group["lr"], group["eps"], seed)
                launch = launcher_of(rows.device) if rows.is_cuda and table.bits in KERNEL_LEVELS else None
                if rows.is_cpu:
                    move_rows_in_loop(move)
                elif launch is None:
                    move_rows(move)
                else:
                    with torch.cuda.device(rows.device):
                        move_rows_by_kernel(launch, move)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients that no step has taken."""
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

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "seed": self.seed, "_tables": self._tables, "_odd": self._odd}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for table in self._tables.values():
            table.trained_by(self)

    def _state_of(self, table: IntegerRows) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[table.anchor]
        if not state:
            rows, device = table.num_embeddings, table.scales.device
            state["squares"] = torch.zeros(rows, device=device)
            state["count"] = torch.zeros(rows, dtype=torch.uint8, device=device)
            state["step"] = torch.zeros((), dtype=torch.int64, device=device)
        elif state["squares"].device != table.scales.device:  # the module has moved since
            state.update({name: tensor.to(table.scales.device) for name, tensor in state.items()})
        return state

    def _odd_of(self, table: IntegerRows, seed: int) -> Tensor:
        if table.anchor not in self._odd or self._odd[table.anchor].device != table.scales.device:
            self._odd[table.anchor] = odd_words(table.embedding_dim, seed, table.scales.device)
        return self._odd[table.anchor]


def _check_gradient(table: IntegerRows, rows: Tensor, gradient: Tensor) -> None:
    if not gradient.numel():
        return
    low, high = torch.aminmax(gradient)  # which pass NaN on
    if bool((low >= -GREATEST_GRADIENT) & (high <= GREATEST_GRADIENT)):
        return
    within = (gradient.abs() <= GREATEST_GRADIENT).all(dim=1)
    raise NonFiniteGradientError(
        f"gradients must be finite and up to {GREATEST_GRADIENT:g}, got others for {int((~within).sum())} of the "
        f"{table.num_embeddings} rows of a table, the first of them row {int(rows[~within][0])}; nothing has been moved"
    )


def move_rows(move: Move) -> None:
    """Make a step, on any device. Rows whose mean square, or whose rate, is no finite number stay as they are.

    Means are added up in float64, so that every order of addition gives the same float32, all but always. Roots are
    taken in float64, too: those of float32 on a CPU are MKL's, of which one in 170 is not the nearest float.
    """
    table, state, rows, gradient, odd, lr, eps, seed = move
    now = gradient.double().square().mean(dim=1).float()
    finite = now.isfinite()
    if not finite.all():
        now, rows, gradient = now[finite], rows[finite], gradient[finite]
    squares, count = state["squares"][rows], state["count"][rows].int() + 1
    squares += (now - squares) / count
    length = squares.double().sqrt_().float().add_(eps).reciprocal_().mul_(lr)
    finite = length.isfinite()  # infinity times a zero of the gradient would be NaN
    if not finite.all():
        squares, count, length, rows, gradient = (part[finite] for part in (squares, count, length, rows, gradient))
    state["squares"][rows] = squares
    state["count"][rows] = count.clamp_(max=_MOST_COUNTED).to(torch.uint8)
    values = table.read_rows(rows).sub_(gradient * length[:, None])
    table.write(rows, values, random_chances(rows, odd, seed, state["step"]))


def move_rows_in_loop(move: Move) -> None:
    """`move_rows` of a table on the CPU, as one compiled loop."""
    from baco_gpu.tables import rowwise_loop  # and Numba, which tables on a GPU can do without

    table, state, rows, gradient, odd, lr, eps, seed = move
    if table.bits in KERNEL_LEVELS:
        levels, places = table.integers.numpy().view(f"u{table.bits // 8}"), rows
    else:
        unpacked = unpack(table.integers[rows], table.bits, table.embedding_dim)
        levels, places = unpacked.to(torch.uint8).numpy(), torch.arange(len(rows))
    rowwise_loop.move_rows(
        levels,
        places.numpy(),
        rows.numpy(),
        table.scales.view(-1).numpy(),
        scale_values(np.arange(256, dtype=np.uint8), table.bits),
        state["squares"].numpy(),
        state["count"].numpy(),
        gradient.contiguous().numpy(),
        odd.numpy(),
        np.uint64(seed),
        state["step"].item(),
        np.float32(midpoint(table.bits)),
        least_scale(table.bits),
        np.float32(lr),
        np.float32(eps),
    )
    if table.bits not in KERNEL_LEVELS:
        table.integers[rows] = pack(torch.from_numpy(levels), table.bits)


def move_rows_by_kernel(launch: Launcher, move: Move) -> None:
    """`move_rows` of a table of 8 or 16 bits in one kernel, in the place of about 150 of PyTorch's."""
    table, state, rows, gradient, odd, lr, eps, seed = move
    grid = shared_grid(len(rows), launch.limits.threads // WARP, launch.processors)
    numbers = [rows, len(rows), gradient.contiguous(), table.embedding_dim, lr, eps, seed]
    own = [table.integers, table.scales, state["squares"], state["count"]]
    launch("low_precision_step", (KERNEL_LEVELS[table.bits],), grid, [*numbers, state["step"], odd, *own])
