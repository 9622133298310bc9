"""Tables of a finished model, replaced in place by codebooks: trained rows and the optimiser's state move along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.tables.assignments import NO_SECONDARY, Labels, label_array
from baco_gpu.tables.bag import CodebookEmbeddingBag, bag_options
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.full import FullTable
from baco_gpu.tables.moments import check_optimizer, move_state


@runtime_checkable
class Labelled(Protocol):
    """Codes of one side, and second codes or None: `CoclusteringResult.users`, for instance."""

    @property
    def labels(self) -> Any: ...

    @property
    def secondary(self) -> Any: ...


class Codes(NamedTuple):
    """Codes and second codes as plain arrays."""

    labels: Labels
    secondary: Labels | None = None


_COMPRESSED = (nn.Embedding, FullTable, nn.EmbeddingBag)

Assigned = Labelled | Labels | Sequence[Labelled | Labels]


@dataclass(frozen=True)
class TableReport:
    """What became of one table. Bytes are those of values and index arrays; the optimiser's state has its own.

    Attributes
    ----------
    name : str
    aliases : tuple of str
        Other names under which the model holds the same module.
    rows_before, rows_after, parameters_before, parameters_after, bytes_before, bytes_after : int
        `parameters_after` counts one for every second code.
    optimizer_bytes_before, optimizer_bytes_after : int
        Zero where no optimiser was given or it has no state yet.
    """

    name: str
    aliases: tuple[str, ...]
    rows_before: int
    rows_after: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    optimizer_bytes_before: int = 0
    optimizer_bytes_after: int = 0


@dataclass(frozen=True)
class CompressionReport:
    """What `compress_module` saved, table by table; `print` shows it as a table."""

    tables: tuple[TableReport, ...]

    def total(self, figure: str) -> int:
        """The sum of a figure of `TableReport` over all tables."""
        return sum(getattr(table, figure) for table in self.tables)

    @property
    def bytes_saved(self) -> int:
        """Of tables and of the optimiser's state."""
        return sum(self.total(f"{part}bytes_before") - self.total(f"{part}bytes_after") for part in ("", "optimizer_"))

    def __str__(self) -> str:
        header = ("table", "rows", "parameters", "bytes", "optimizer bytes")
        figures = ("rows", "parameters", "bytes", "optimizer_bytes")
        lines: list[tuple[str, ...]] = [header]
        for table in self.tables:
            name = " = ".join((table.name, *table.aliases))
            changes = [(getattr(table, f"{figure}_before"), getattr(table, f"{figure}_after")) for figure in figures]
            lines.append((name, *(f"{before:,} -> {after:,}" for before, after in changes)))
        sums = [(self.total(f"{figure}_before"), self.total(f"{figure}_after")) for figure in figures]
        lines.append(("total", *(f"{before:,} -> {after:,}" for before, after in sums)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(row))
            for row in (zip(line, widths, strict=True) for line in lines)
        )


class _Plan(NamedTuple):
    """One replacement, ready to be made."""

    name: str
    places: list[tuple[nn.Module, str]]
    aliases: tuple[str, ...]
    table: nn.Embedding | nn.EmbeddingBag
    codebook: CodebookEmbedding


def compress_module(
    model: nn.Module,
    tables: Mapping[str, Assigned],
    optimizer: torch.optim.Optimizer | None = None,
    weights: Mapping[str, Tensor | np.ndarray | Sequence[float]] | None = None,
    *,
    bits: int | None = None,
) -> CompressionReport:
    """Replace embedding tables of `model` by codebooks, in place.

    `nn.Embedding` becomes `CodebookEmbedding`, `nn.EmbeddingBag` becomes `CodebookEmbeddingBag`, with the same
    arguments, dtype and device. A row of a codebook is the weighted mean of the trained rows that share it. Where one
    module is held under several names, all of them get the one codebook. Compress before wrapping a model in
    DistributedDataParallel.

    Parameters
    ----------
    model : nn.Module
    tables : mapping of name to codes
        Names are those of `model.named_modules()`: "user_embedding", "towers.user.embedding". Codes are a side of a
        result (`result.users`), a `Codes` pair, or an integer array, with an entry for every row of the table. Where
        one table holds several kinds of ids in a row, give a list of codes, one for each kind, in their order: kinds
        share no row. `[[0], result.users]` is a table whose first row is for padding.
    optimizer : torch.optim.Optimizer, optional
        Its parameter groups get the codebooks in place of the tables, and what it has accumulated moves over. The
        gradient of a codebook's row is a sum over the rows that it stands for, and so first moments (momentum) are
        summed alike, which is exact. Second moments are summed too, with squared factors: exact for gradients that
        are uncorrelated, which those of different ids nearly are, as no batch holds many.
    weights : mapping of name to non-negative numbers, optional
        Of every row of a table in its mean: the degrees, for instance. 1 where not given.
    bits : int, 16 or from 8 to 2, optional
        Of a value of the codebooks, which from now on train through the rounding to so many; see `CodebookEmbedding`.

    Returns
    -------
    CompressionReport

    Raises
    ------
    InputError
        When a name is no table of the model, codes do not fit it, its weight is shared with another module, it has
        hooks or arguments that a codebook does not have (`max_norm`, `scale_grad_by_freq`), or the optimiser cannot
        take it. Nothing is changed then.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise InputError(
            "model must be compressed before DistributedDataParallel wraps it, got a wrapped one: its buckets hold "
            "the old tables"
        )
    weights = {} if weights is None else weights
    strangers = sorted(set(weights) - set(tables))
    if strangers:
        raise InputError(f"weights must be of tables that are compressed, got {strangers[0]!r}")
    plans = [_plan(model, name, assigned, weights.get(name), bits) for name, assigned in tables.items()]
    for plan in plans:
        given_twice = [alias for alias in plan.aliases if alias in tables]
        if given_twice:
            raise InputError(f"tables must name a module once, got {plan.name!r} and {given_twice[0]!r}, which are one")
        if optimizer is not None:
            check_optimizer(optimizer, plan.name, plan.table.weight, sparse=plan.table.sparse)
    return CompressionReport(tuple(_replace(plan, optimizer) for plan in plans))


def _plan(model: nn.Module, name: str, assigned: Assigned, weights: Any, bits: int | None) -> _Plan:
    table = _find(model, name)
    _check_table(model, name, table)
    codes = _joined(name, assigned)
    if len(codes.labels) != table.num_embeddings:
        raise InputError(
            f"codes of {name!r} must have one entry a row of the table ({table.num_embeddings}), "
            f"got {len(codes.labels)}"
        )
    kind = CodebookEmbeddingBag if isinstance(table, nn.EmbeddingBag) else CodebookEmbedding
    try:
        codebook = kind.from_pretrained(
            table,
            codes.labels,
            codes.secondary,
            weights,
            padding_idx=table.padding_idx,
            sparse=table.sparse,
            bits=bits,
            **(bag_options(table) if isinstance(table, nn.EmbeddingBag) else {}),
        )
    except InputError as error:
        raise InputError(f"{name!r}: {error}") from error
    codebook.codebook.requires_grad_(table.weight.requires_grad)
    held = [(other, module) for other, module in model.named_modules(remove_duplicate=False) if module is table]
    places = [(model.get_submodule(other.rpartition(".")[0]), other.rpartition(".")[2]) for other, _ in held]
    return _Plan(
        name, places, tuple(other for other, _ in held if other != name), table, codebook.train(table.training)
    )


def _find(model: nn.Module, name: str) -> nn.Embedding | nn.EmbeddingBag:
    modules = dict(model.named_modules(remove_duplicate=False))
    module = modules.get(name) if name else None
    if type(module) in _COMPRESSED:
        return module  # type: ignore[return-value]
    tables = [other for other, found in modules.items() if other and type(found) in _COMPRESSED]
    listed = f"the tables of this model are {', '.join(map(repr, tables))}" if tables else "this model has none"
    got = f"{name!r}" if module is None else f"{name!r}, a {type(module).__name__}"
    raise InputError(f"tables must name an nn.Embedding or nn.EmbeddingBag, got {got}; {listed}")


def _check_table(model: nn.Module, name: str, table: nn.Embedding | nn.EmbeddingBag) -> None:
    for argument in ("max_norm", "scale_grad_by_freq"):
        if getattr(table, argument):
            raise InputError(f"{name!r} must have no {argument}, which shared rows do not have")
    hooks = (table._forward_hooks, table._forward_pre_hooks, table._backward_hooks, table._backward_pre_hooks)
    if any(hooks) or hasattr(table, "parametrizations"):
        raise InputError(f"{name!r} must have no hooks and no parametrizations, which a codebook would lose")
    for other, parameter in model.named_parameters(remove_duplicate=False):
        owner = model.get_submodule(other.rpartition(".")[0])
        if parameter is table.weight and owner is not table:
            raise InputError(f"{name!r} must have a weight of its own, got one that is also {other!r}: untie the two")


def _joined(name: str, assigned: Assigned) -> Codes:
    """One array of codes and one of second codes; the labels of every part of a list are shifted past the last's."""
    kinds = isinstance(assigned, (list, tuple)) and any(_is_side(part) or np.ndim(part) for part in assigned)
    parts: Sequence[Any] = assigned if kinds and not _is_side(assigned) else [assigned]  # type: ignore[assignment]
    labels, secondary, shift = [], [], 0
    for part in parts:
        side = part if isinstance(part, Labelled) else Codes(part)
        own = label_array(f"codes of {name!r}", side.labels, minimum=0)
        labels.append(own + shift)
        if side.secondary is None:
            secondary.append(np.full(len(own), NO_SECONDARY))
        else:
            second = label_array(f"secondary codes of {name!r}", side.secondary, minimum=NO_SECONDARY)
            secondary.append(np.where(second == NO_SECONDARY, NO_SECONDARY, second + shift))
        shift += int(own.max(initial=-1)) + 1
    has_secondary = any(isinstance(part, Labelled) and part.secondary is not None for part in parts)
    return Codes(np.concatenate(labels), np.concatenate(secondary) if has_secondary else None)


def _is_side(part: object) -> bool:
    return isinstance(part, Labelled)


def _replace(plan: _Plan, optimizer: torch.optim.Optimizer | None) -> TableReport:
    weight, codebook = plan.table.weight, plan.codebook
    before = after = 0
    if optimizer is not None:
        before, after = move_state(optimizer, weight, codebook)
    for parent, attribute in plan.places:
        setattr(parent, attribute, codebook)
    return TableReport(
        name=plan.name,
        aliases=plan.aliases,
        rows_before=len(weight),
        rows_after=codebook.num_rows,
        parameters_before=weight.numel(),
        parameters_after=codebook.parameter_count,
        bytes_before=weight.nbytes,
        bytes_after=codebook.nbytes,
        optimizer_bytes_before=before,
        optimizer_bytes_after=after,
    )
