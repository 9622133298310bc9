"""Ids that come and go: the tables of a model resized together, and the optimizer's state with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from baco_gpu.checks import check_mapping
from baco_gpu.errors import InputError
from baco_gpu.tables.bag import TableBag
from baco_gpu.tables.embedding_table import EmbeddingTable, check_model
from baco_gpu.tables.full import FullTable, tables_in
from baco_gpu.tables.id_growth import GONE, Assigned, Growth, Moves, RowMoves
from baco_gpu.tables.moments import follow_rows

_TABLES = (EmbeddingTable, TableBag, nn.Embedding, nn.EmbeddingBag)


class _Resized(NamedTuple):
    """A table, and what it is to become."""

    name: str
    module: nn.Module
    table: EmbeddingTable
    growth: Growth

    @property
    def shares_rows(self) -> bool:
        return not self.growth.own_rows

    @property
    def moved(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that ids which are still there had, and have now."""
        stay = self.growth.places != GONE
        before = self.table.row_numbers().cpu().numpy()[stay]
        return before, self.growth.labels[self.growth.places[stay]]


@torch.no_grad()
def resize_module(
    model: nn.Module,
    tables: Mapping[str, Assigned],
    optimizer: torch.optim.Optimizer | None = None,
    places: Mapping[str, Any] | None = None,
) -> None:
    """Change the ids of tables of `model` in place: old ones may have moved or gone, new ones may have come.

    For every kind of table, `nn.Embedding` and `nn.EmbeddingBag` among them. Where ids share rows, new ones share the
    present rows, by their labels. A row whose ids are all new to it begins as the mean of the rows that they had. Where
    every id has its own row, a new one begins as the mean of the rows of old ids with its label.

    Parameters
    ----------
    model : nn.Module
    tables : mapping of name to assignments
        Names are those of `model.named_modules()`. Assignments are of all ids, old and new: a side of what
        `CoclusteringResult.assign` or `update` gives, a `Codes` pair, or an integer array; where rows are shared, in
        the label space that the table was made with; where they are not, in any. A table of several kinds of ids takes
        a list, as `compress_module` does.
    optimizer : torch.optim.Optimizer, optional
        Its state of a row moves with the row; new rows have zeros. Gradients are dropped.
    places : mapping of name to integers of shape (old ids,), optional
        The number that every old id has now, -1 for one that is gone: `result.users.places_in(grown.users)`. By default
        old ids keep their numbers. Needed for tables that grow and whose ids have something of their own.

    Raises
    ------
    InputError
        When a name is no table of the model, labels or places do not fit it, or rows would have to grow that another
        module reads too. Nothing is changed then.
    """
    check_model(model)
    check_mapping("tables", tables, "names to assignments")
    given = {} if places is None else places
    check_mapping("places", given, "names to integers")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    strangers = sorted(set(given) - set(tables))
    if strangers:
        raise InputError(f"places must be of tables that are resized, got {strangers[0]!r}")
    plans = [_plan(model, name, assigned, given.get(name)) for name, assigned in tables.items()]
    names: dict[nn.Module, str] = {}
    for plan in plans:
        first = names.setdefault(plan.module, plan.name)
        if first != plan.name:
            raise InputError(f"tables must name a module once, got {first!r} and {plan.name!r}, which are one")
        if not plan.shares_rows:
            _check_alone(model, plan)
    begun = [_begun(model, alike) for alike in _holders(plans)]
    moves: Moves = {}
    for plan in plans:
        moves |= plan.table.regrow(plan.growth)
        if plan.module is not plan.table and not isinstance(plan.module, TableBag):
            module: Any = plan.module
            module.num_embeddings, module.padding_idx = plan.table.num_embeddings, plan.table.padding_idx
    for table, rows, means in begun:
        if len(rows):
            table.set_rows(rows, means)
            if table.row_parameter is not None:
                moves[table.row_parameter] = _anew(rows, len(table.row_parameter))
    if optimizer is not None:
        follow_rows(optimizer, moves)


def _plan(model: nn.Module, name: str, assigned: Assigned, places: Any) -> _Resized:
    modules = dict(model.named_modules(remove_duplicate=False))
    module = modules.get(name)
    if not isinstance(module, _TABLES):
        known = [other for other, found in modules.items() if isinstance(found, _TABLES)]
        got = f"{name!r}" if module is None else f"{name!r}, a {type(module).__name__}"
        raise InputError(f"tables must name tables of the model ({', '.join(map(repr, known)) or 'none'}), got {got}")
    if isinstance(module, TableBag):
        table = module.table
    else:
        table = module if isinstance(module, EmbeddingTable) else FullTable.of(module)  # type: ignore[arg-type]
    second = getattr(assigned, "secondary", None) is not None and getattr(table, "secondary", None) is not None
    try:
        growth = table.growth_of(assigned, None, places, own_rows=table.owns_rows and not second)
    except InputError as error:
        raise InputError(f"{name!r}: {error}") from error
    return _Resized(name, module, table, growth)


def _check_alone(model: nn.Module, plan: _Resized) -> None:
    """Raise InputError where a module beside the table reads its rows, and would have as many as before."""
    inside = set(plan.module.modules()) | {plan.table}
    own = {id(tensor) for tensor in plan.table.state_dict(keep_vars=True).values() if tensor.ndim == 2}
    own -= {id(getattr(plan.table, "centroids", None)), id(getattr(plan.table, "basis", None))}
    for other, module in model.named_modules():
        for key, tensor in {**module._parameters, **module._buffers}.items():
            if module not in inside and tensor is not None and id(tensor) in own:
                raise InputError(
                    f"{plan.name!r} must have rows of its own to grow, got some that {other}.{key} is, too"
                )


def _anew(rows: torch.Tensor, count: int) -> RowMoves:
    """Every row where it was, but for these, which begin anew."""
    sources = np.arange(count)
    sources[rows.cpu().numpy()] = GONE
    return RowMoves(count, sources)


def _holders(plans: Sequence[_Resized]) -> list[list[_Resized]]:
    """The tables of shared rows, those of the same rows together."""
    alike: dict[int, list[_Resized]] = {}
    for plan in plans:
        if plan.shares_rows:
            alike.setdefault(id(plan.table.stored()[0].tensor), []).append(plan)
    return list(alike.values())


def _begun(model: nn.Module, alike: Sequence[_Resized]) -> tuple[EmbeddingTable, torch.Tensor, torch.Tensor]:
    """Rows that no id has kept, and the means of those that their ids had before."""
    before, after = (np.concatenate(parts) for parts in zip(*(plan.moved for plan in alike), strict=True))
    table, resized = alike[0].table, {plan.table for plan in alike}
    others = [
        other.row_numbers().cpu().numpy()
        for other in tables_in(model)
        if other not in resized and other.stored()[0].tensor is table.stored()[0].tensor
    ]
    anew = ~np.isin(after, np.concatenate([after[before == after], *others]))
    rows, at = np.unique(after[anew], return_inverse=True)
    device = table.row_numbers().device
    had = table.read_rows(torch.as_tensor(before[anew], device=device)).double()
    sums = had.new_zeros((len(rows), table.embedding_dim)).index_add_(0, torch.as_tensor(at, device=device), had)
    counts = torch.as_tensor(np.bincount(at, minlength=len(rows)), device=device)
    return table, torch.as_tensor(rows, device=device), sums / counts.unsqueeze(1)
