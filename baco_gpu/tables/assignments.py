"""Labels as callers bring them, checked and turned into row numbers of a codebook, and what rows are to start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer, shown
from baco_gpu.errors import InputError, brief

Labels = np.ndarray | Tensor | Sequence[int]

NO_SECONDARY = GONE = -1
_BLOCK = 1 << 16  # rows that are float64 at a time


def label_array(name: str, values: Labels, *, minimum: int, columns: bool = False) -> np.ndarray:
    """`values` as an int64 array of one dimension, or, with `columns`, of one or two; none below `minimum`."""
    array = _array(name, values)
    if not array.ndim:
        raise InputError(f"{name} must be an array of integers, got {shown(values)}")
    if array.ndim != 1 and not (columns and array.ndim == 2):
        raise InputError(f"{name} must have one dimension{' or two' if columns else ''}, got shape {array.shape}")
    if array.size == 0:
        return np.empty(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} must be below 2^63, got {array.max()}")
    array = array.astype(np.int64)
    if array.min() < minimum:
        raise InputError(f"{name} must be at least {minimum}, got {array.min()}")
    return array


def weight_array(name: str, values: Any, count: int) -> np.ndarray:
    """`values` as `count` float64 weights; InputError where they are no finite numbers of at least zero."""
    array = _array(name, values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be {count} numbers, got {shown(values)}")
    if array.shape != (count,):
        raise InputError(f"{name} must have shape ({count},), got {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"{name} must be finite and non-negative")
    return array.astype(np.float64)


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:  # lists of several lengths, types that NumPy lacks
        raise InputError(f"{name} must be an array, got {shown(values)}: {brief(error)}") from error


def rows_of_labels(name: str, wanted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Position in the ascending `labels` of every wanted label; InputError names the first that is not there."""
    if len(labels) == 0:
        rows, known = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    else:
        rows = np.minimum(np.searchsorted(labels, wanted), len(labels) - 1)
        known = labels[rows] == wanted
    if not known.all():
        stranger = int(np.flatnonzero(~known)[0])
        raise InputError(f"{name} must be labels of the codebook, got {wanted[stranger]} at position {stranger}")
    return rows


def secondary_rows(secondary: Labels, labels: np.ndarray, rows: np.ndarray, *, columns: bool = False) -> np.ndarray:
    """Rows of the secondary labels; where there is none, the row of the code itself, so that a mean needs no mask."""
    second = label_array("secondary", secondary, minimum=NO_SECONDARY, columns=columns)
    if len(second) != len(rows):
        raise InputError(f"secondary must be as long as assignments ({len(rows)}), got {len(second)}")
    own = labels[rows].reshape(-1, *[1] * (second.ndim - 1))
    wanted = np.where(second == NO_SECONDARY, own, second)
    return rows_of_labels("secondary", wanted.reshape(-1), labels).reshape(second.shape)


def foreign_rows(state: Mapping[str, Any], prefix: str, rows: int) -> Iterator[str]:
    """What is wrong with the assignments of a state, which index a codebook of so many rows unchecked ever after."""
    for name in ("assignments", "secondary"):
        stored = state.get(prefix + name)
        if isinstance(stored, Tensor) and stored.numel():
            low, high = (int(bound) for bound in torch.aminmax(stored))
            if low < 0 or high >= rows:
                yield f"{prefix}{name} must hold rows from 0 to {rows - 1}, got {low}..{high}"


def padding_index(padding_idx: int | None, count: int) -> int | None:
    """`padding_idx` from 0, where it may be counted from the end; InputError when it is out of range."""
    if padding_idx is None:
        return None
    index = check_integer("padding_idx", padding_idx, minimum=-count, maximum=count - 1)
    return index % count


def moved_ids(places: Labels, count: int, size: int) -> np.ndarray:
    """The number that each of `count` ids has among `size`, int64, -1 for one that is gone.

    InputError unless the others are distinct and in range.
    """
    now = label_array("places", places, minimum=GONE)
    if len(now) != count:
        raise InputError(f"places must have one entry an old id ({count}), got {len(now)}")
    if now.size and now.max() >= size:
        raise InputError(f"places must be from 0 to {size - 1}, got {now.max()}")
    values, times = np.unique(now[now != GONE], return_counts=True)
    if times.max(initial=1) > 1:
        raise InputError(f"places must be distinct, got {values[times > 1][0]} more than once")
    return now


def carried(old: Tensor, places: np.ndarray, new: Tensor) -> Tensor:
    """`new`, with what every old id that is not gone had in its new place."""
    stay = places != GONE
    new[torch.as_tensor(places[stay], device=old.device)] = old[torch.as_tensor(stay, device=old.device)]
    return new


def trained_table(table: Tensor | nn.Module) -> Tensor:
    """The values of a trained table, detached; InputError unless they are a floating matrix."""
    values = table.weight if isinstance(table, nn.Module) and hasattr(table, "weight") else table
    if not isinstance(values, Tensor):
        raise InputError(f"table must be a tensor or have a weight, got {type(table).__name__}")
    source = values.detach().as_subclass(Tensor)
    if source.ndim != 2 or not source.is_floating_point():
        raise InputError(f"table must be a floating matrix, got {source.dtype} of shape {tuple(source.shape)}")
    return source


def embedding_options(table: Tensor | nn.Module, padding_idx: int | None, sparse: bool | None) -> dict[str, Any]:
    """The arguments `padding_idx` and `sparse` of what takes the place of `table`: as given, or else as the table's.

    Raises InputError where the table has arguments that shared rows do not have.
    """
    if isinstance(table, Tensor):
        return {"padding_idx": padding_idx, "sparse": bool(sparse)}
    check_arguments("table", table)
    return {
        "padding_idx": getattr(table, "padding_idx", None) if padding_idx is None else padding_idx,
        "sparse": bool(getattr(table, "sparse", False) if sparse is None else sparse),
    }


def check_arguments(name: str, table: nn.Module | None) -> None:
    """Raise InputError where an embedding of PyTorch has arguments that what takes its place would lose."""
    for argument in ("max_norm", "scale_grad_by_freq"):
        if getattr(table, argument, None):
            raise InputError(f"{name} must have no {argument}, which small tables do not have")


def freeze_like(module: nn.Module, table: Tensor | nn.Module) -> None:
    """Freeze `module` where the weight of the module that it is made of is frozen."""
    if isinstance(table, nn.Module):
        module.requires_grad_(any(parameter.requires_grad for parameter in table.parameters()))


def mean_rows(
    table: Tensor,
    assignments: Tensor,
    rows: int,
    weights: Tensor | np.ndarray | Sequence[float] | None,
    padding_idx: int | Tensor | None = None,
) -> Tensor:
    """The weighted mean of the rows of a table that share each of so many rows, float64 of shape (rows, dim).

    The zeros of the padding index are in no mean.
    """
    share = _mean_weights(weights, assignments, rows, padding_idx).unsqueeze(1)
    means = table.new_zeros((rows, table.shape[1]), dtype=torch.float64)
    for part in zip(*(each.split(_BLOCK) for each in (assignments, table, share)), strict=True):
        means.index_add_(0, part[0], part[1].double() * part[2])
    return means


def _mean_weights(
    weights: Tensor | np.ndarray | Sequence[float] | None,
    assignments: Tensor,
    rows: int,
    padding_idx: int | Tensor | None,
) -> Tensor:
    """Float64 weights of shape (len(assignments),) that sum to 1 within every row, but for one of padding alone."""
    ones = torch.ones(len(assignments), dtype=torch.float64, device=assignments.device)
    if weights is None:
        given = ones
    else:
        given = torch.as_tensor(weight_array("weights", weights, len(assignments)), device=assignments.device)
    if padding_idx is not None:
        ones[padding_idx] = 0
        given = given * ones
    sums = torch.zeros(rows, dtype=torch.float64, device=assignments.device).index_add_(0, assignments, given)
    weightless = (sums == 0)[assignments]
    given = torch.where(weightless, ones, given)
    sums = torch.zeros_like(sums).index_add_(0, assignments, given)
    return given / sums[assignments].masked_fill(given == 0, 1)
