"""What optimisers have accumulated for a table, carried over to the codebook that takes its place.

The gradient of a codebook's row is the sum of the gradients of the ids that read it, each with its share of the row
(a half of each of two rows). A first moment is linear in gradients, so the same sum of first moments is what the
optimiser would have accumulated had the codebook been there from the start with these gradients. A second moment is a
mean of squared gradients: the sum with squared shares is the square's expectation where gradients of different ids are
uncorrelated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baco_gpu.errors import InputError
from baco_gpu.tables.assignments import GONE
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.id_growth import Moves

# Which entries of an optimiser's state are first and which are second moments; the rest are step counts.
_MOMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Adam": (("exp_avg",), ("exp_avg_sq", "max_exp_avg_sq")),
    "AdamW": (("exp_avg",), ("exp_avg_sq", "max_exp_avg_sq")),
    "NAdam": (("exp_avg",), ("exp_avg_sq",)),
    "RAdam": (("exp_avg",), ("exp_avg_sq",)),
    "SparseAdam": (("exp_avg",), ("exp_avg_sq",)),
    "SGD": (("momentum_buffer",), ()),
    "RMSprop": (("grad_avg",), ("square_avg",)),
    "Adagrad": ((), ("sum",)),
}
_TAKES_SPARSE = ("SGD", "SparseAdam", "Adagrad")


def check_optimizer(optimizer: torch.optim.Optimizer, name: str, weight: Tensor, *, sparse: bool | None) -> None:
    """Raise InputError where the optimiser cannot train what takes the place of `name`, or its state cannot move.

    `sparse` says which gradients it is to take: None where it is to take none.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    optimizer = holder_of(optimizer, weight)
    if _groups_of(optimizer, weight) == [] or sparse is None:
        return
    kind = type(optimizer).__name__
    if sparse and _family(optimizer) not in (*_TAKES_SPARSE, None):
        raise InputError(f"{name!r} has sparse gradients, and {kind} takes none: use one of {', '.join(_TAKES_SPARSE)}")
    if not sparse and _family(optimizer) == "SparseAdam":
        raise InputError(f"{name!r} has dense gradients by now, and {kind} takes sparse ones alone")
    known = _roles(optimizer)
    for key, value in optimizer.state.get(weight, {}).items():
        if isinstance(value, Tensor) and value.ndim and key not in known:
            raise InputError(
                f"optimizer must have a state that can be moved, got {key!r} of {kind} for {name!r}; "
                "compress with optimizer=None and make a new one"
            )
        if isinstance(value, Tensor) and value.ndim and value.shape != weight.shape:
            raise InputError(f"{key!r} of the optimizer must have the shape of {name!r}, got {tuple(value.shape)}")


def holder_of(optimizer: torch.optim.Optimizer, weight: Tensor) -> torch.optim.Optimizer:
    """The one of several combined optimizers that has the weight; the optimizer itself where it is one."""
    parts = getattr(optimizer, "optimizers", [optimizer])
    return next((part for part in parts if _groups_of(part, weight)), optimizer)


@torch.no_grad()
def move_state(
    optimizer: torch.optim.Optimizer, weight: Tensor, table: EmbeddingTable, parameters: list[Tensor]
) -> tuple[int, int]:
    """Put `parameters` where `weight` was, with its state summed by row; the bytes of the state before and after."""
    holder = holder_of(optimizer, weight)
    held = {each for group in optimizer.param_groups for each in group["params"]}
    new = [each for each in parameters if each not in held]
    for group in _groups_of(holder, weight):
        place = next(place for place, each in enumerate(group["params"]) if each is weight)
        group["params"][place : place + 1] = new
    state = holder.state.pop(weight, None)
    rows = table.row_parameter
    if not state or rows is None or all(rows is not each for each in parameters):
        return _nbytes(state or {}), 0
    first, _ = _MOMENTS[_family(holder) or ""] if _family(holder) else ((), ())
    shared = holder.state.get(rows, {})  # with a table that has been moved already
    moved = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            moved[key] = _summed(value, table, rows, squared=key not in first) + shared.get(key, 0)
        else:
            moved[key] = value
    holder.state[rows] = moved
    return _nbytes(state), _nbytes(moved)


@torch.no_grad()
def follow_rows(optimizer: torch.optim.Optimizer, moves: Moves) -> None:
    """Let what has accumulated for rows of parameters go with them; rows that begin anew have zeros."""
    for parameter, (count, sources) in moves.items():
        state = holder_of(optimizer, parameter).state.get(parameter, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == count:
                known = torch.as_tensor(sources != GONE, device=value.device)
                moved = value.new_zeros((len(sources), *value.shape[1:]))
                moved[known] = value[torch.as_tensor(sources, device=value.device)[known]]
                state[key] = moved


def _summed(moment: Tensor, table: EmbeddingTable, rows: Tensor, *, squared: bool) -> Tensor:
    """The moments of a table's rows, (num_embeddings, dim), summed by the rows that take their place."""
    terms = moment.double()
    if table.padding_idx is not None:
        terms = terms.clone()
        terms[table.padding_idx] = 0
    total = terms.new_zeros(rows.shape)
    for numbers, share in table.row_parts():
        part = share**2 if squared else share
        total.index_add_(0, numbers.long().to(terms.device), terms * part)
    return total.to(moment.dtype)


def _groups_of(optimizer: torch.optim.Optimizer, weight: Tensor) -> list[dict]:
    return [group for group in optimizer.param_groups if any(each is weight for each in group["params"])]


def _family(optimizer: torch.optim.Optimizer) -> str | None:
    """The name of the optimiser, or of its first base, whose state is known."""
    return next((kind.__name__ for kind in type(optimizer).__mro__ if kind.__name__ in _MOMENTS), None)


def _roles(optimizer: torch.optim.Optimizer) -> set[str]:
    family = _family(optimizer)
    return set() if family is None else {key for keys in _MOMENTS[family] for key in keys}


def _nbytes(state: dict) -> int:
    return sum(value.nbytes for value in state.values() if isinstance(value, Tensor))
