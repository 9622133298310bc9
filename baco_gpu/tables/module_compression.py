"""Tables of a finished model, replaced in place by codebooks: trained rows and the optimiser's state move along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_choice, check_integer, check_mapping
from baco_gpu.errors import InputError
from baco_gpu.tables.assignments import check_arguments, mean_rows, trained_table, weight_array
from baco_gpu.tables.bag import CodebookEmbeddingBag, TableBag, bag_options
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable, Size, check_model, own_optimizers
from baco_gpu.tables.full import FullTable, tables_in
from baco_gpu.tables.id_growth import Assigned, joined
from baco_gpu.tables.moments import check_optimizer, move_state
from baco_gpu.tables.optimizers import CombinedOptimizer, check_unscheduled

_COMPRESSED = (nn.Embedding, FullTable, nn.EmbeddingBag)
_REGISTERED = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class TableReport:
    """What became of one table. Bytes are those of values and index arrays; the optimiser's state has its own.

    Attributes
    ----------
    name : str
    aliases : tuple of str
        Other names under which the model holds the same module.
    rows_before, rows_after, parameters_before, parameters_after, bytes_before, bytes_after : int
        `parameters_after` counts one for every second assignment.
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
    """What `compress_module` saved, table by table; `print` shows it as a table.

    Attributes
    ----------
    tables : tuple of TableReport
    optimizer : torch.optim.Optimizer or None
        What trains the model from now on: the optimizer that was given, or a `CombinedOptimizer` of it and of those
        that tables bring along (`RowwiseRMSprop`).
    """

    tables: tuple[TableReport, ...]
    optimizer: torch.optim.Optimizer | None = None

    def total(self, figure: str) -> int:
        """The sum of a figure of `TableReport` over all tables."""
        return sum(getattr(table, figure) for table in self.tables)

    @property
    def bytes_saved(self) -> int:
        """Of tables and of the optimiser's state."""
        return sum(self.total(f"{part}bytes_before") - self.total(f"{part}bytes_after") for part in ("", "optimizer_"))

    def __repr__(self) -> str:
        names = ", ".join(table.name for table in self.tables)
        return f"{type(self).__name__}({names}: {self.bytes_saved:,} bytes saved)"

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
    """One replacement, ready to be made: of a module by another, which is the table or a bag over it."""

    name: str
    places: list[tuple[nn.Module, str]]
    aliases: tuple[str, ...]
    old: nn.Embedding | nn.EmbeddingBag
    table: EmbeddingTable
    module: nn.Module
    takes_rows: bool
    weights: np.ndarray | None


def compress_module(
    model: nn.Module,
    tables: Mapping[str, Assigned | EmbeddingTable],
    optimizer: torch.optim.Optimizer | None = None,
    weights: Mapping[str, Tensor | np.ndarray | Sequence[float]] | None = None,
    *,
    bits: int | None = None,
    rows: str = "trained",
    seed: int = 0,
) -> CompressionReport:
    """Replace embedding tables of `model` by codebooks or other small tables, in place.

    `nn.Embedding` becomes `CodebookEmbedding`, `nn.EmbeddingBag` becomes `CodebookEmbeddingBag`, with the same
    arguments, dtype and device. A row of a codebook is the weighted mean of the trained rows that share it. Where one
    module is held under several names, all of them get the one codebook. Compress before wrapping a model in
    DistributedDataParallel.

    Parameters
    ----------
    model : nn.Module
    tables : mapping of name to assignments
        Names are those of `model.named_modules()`: "user_embedding", "towers.user.embedding". Assignments are a side of
        a result (`result.users`), a `Codes` pair, or an integer array, with an entry for every row of the table. Where
        one table holds several kinds of ids in a row, give a list of them, one for each kind, in their order: kinds
        share no row. `[[0], result.users]` is a table whose first row is for padding.
    optimizer : torch.optim.Optimizer, optional
        Its parameter groups get the codebooks in place of the tables, and what it has accumulated moves over. The
        gradient of a codebook's row is a sum over the rows that it stands for, and so first moments (momentum) are
        summed alike, which is exact. Second moments are summed too, with squared factors: exact for gradients that
        are uncorrelated, which those of different ids nearly are, as no batch holds many.
    weights : mapping of name to non-negative numbers, optional
        Of every row of a table in its mean: the degrees, for instance. 1 where not given.
    bits : int, 16 or from 8 to 2, optional
        Of a value of the codebooks made of labels, which from now on train through the rounding to so many; see
        `CodebookEmbedding`.
    rows : {"trained", "own"}
        Whether tables that are given take the trained rows of the model (means of those that share one, and residuals
        fitted to what means leave), or keep their own, as where they are made of a trained table.
    seed : int
        Of the optimizers that tables bring along.

    Returns
    -------
    CompressionReport

    Raises
    ------
    InputError
        When a name is no table of the model, assignments do not fit it, its weight is shared with another module, it
        has hooks, parts or arguments that a codebook does not have (`max_norm`, `scale_grad_by_freq`), is held by an
        attribute that is no module, too, or the optimiser cannot take it. Nothing is changed then.
    """
    _check_model(model)
    check_mapping("tables", tables, "names of tables to assignments or tables")
    if not tables:
        raise InputError("tables must name one table at least, got none")
    check_choice("rows", rows, ("trained", "own"))
    check_integer("seed", seed, minimum=0)
    weights = {} if weights is None else weights
    check_mapping("weights", weights, "names of tables to numbers")
    strangers = sorted(map(str, set(weights) - set(tables)))
    if strangers:
        raise InputError(f"weights must be of tables that are compressed, got {strangers[0]!r}")
    plans = [_plan(model, name, given, weights.get(name), bits, rows) for name, given in tables.items()]
    if len({plan.table for plan in plans}) < len(plans):
        raise InputError("tables must be one for each name, got one twice")
    own = _trained_by_own(plans)
    for plan in plans:
        given_twice = [alias for alias in plan.aliases if alias in tables]
        if given_twice:
            raise InputError(f"tables must name a module once, got {plan.name!r} and {given_twice[0]!r}, which are one")
        if optimizer is not None:
            new = [each for each in plan.table.parameters() if each not in own]
            sparse = getattr(plan.table, "sparse", False) if new else None
            check_optimizer(optimizer, plan.name, plan.old.weight, sparse=sparse)
    if optimizer is not None and _brings_along(plans, optimizer, own):
        check_unscheduled(optimizer)
    _hand_rows_over(plans)
    for plan in plans:
        plan.module.requires_grad_(plan.old.weight.requires_grad).train(plan.old.training)
    trainer = None if optimizer is None else _trainer(plans, optimizer, seed)
    return CompressionReport(tuple(_replace(plan, optimizer, own) for plan in plans), trainer)


def _trained_by_own(plans: Sequence[_Plan]) -> set[nn.Parameter]:
    """The parameters that optimizers of the tables' own train, or what these know tables by."""
    made = own_optimizers([part for plan in plans for part in tables_in(plan.table)], 1.0, 0)
    return {each for optimizer in made for group in optimizer.param_groups for each in group["params"]}


def _brings_along(plans: Sequence[_Plan], optimizer: torch.optim.Optimizer, own: set[nn.Parameter]) -> bool:
    """Whether what the optimizer trains is to have another one beside it."""
    trained = {each for group in optimizer.param_groups for each in group["params"]}
    return bool(own) and any(plan.old.weight in trained for plan in plans)


def _trainer(plans: Sequence[_Plan], optimizer: torch.optim.Optimizer, seed: int) -> torch.optim.Optimizer:
    """The optimizer, beside those that tables bring along, at the rate at which it trained the first of these."""
    groups = [group for group in optimizer.param_groups for plan in plans if plan.old.weight in set(group["params"])]
    parts = [part for plan in plans for part in tables_in(plan.table)]
    own = own_optimizers(parts, float(groups[0]["lr"]), seed) if groups else []
    if not own:
        return optimizer
    return CombinedOptimizer([*getattr(optimizer, "optimizers", [optimizer]), *own])


@torch.no_grad()
def _hand_rows_over(plans: Sequence[_Plan]) -> None:
    """Give every row the mean of the trained rows that share it, those of all tables that hold the row."""
    holders: dict[int, list[_Plan]] = {}
    for plan in plans:
        if plan.takes_rows:
            holders.setdefault(id(plan.table.stored()[0].tensor), []).append(plan)
    for alike in holders.values():
        sources = [trained_table(plan.old) for plan in alike]
        count, first, left_out, each_weight = alike[0].table.stored()[0].rows, 0, [], []
        for plan, source in zip(alike, sources, strict=True):
            given = np.ones(len(source)) if plan.weights is None else plan.weights
            each_weight.append(torch.as_tensor(given, device=source.device))
            if plan.table.padding_idx is not None:
                left_out.append(first + plan.table.padding_idx)
            first += len(source)
        numbers = torch.cat([plan.table.row_numbers().to(sources[0].device) for plan in alike])
        padding = torch.tensor(left_out, dtype=torch.int64, device=numbers.device)
        means = mean_rows(torch.cat(sources), numbers, count, torch.cat(each_weight), padding)
        alike[0].table.take_rows(means.to(sources[0].dtype))
        for plan, source in zip(alike, sources, strict=True):
            plan.table.fit_own(source)


def _plan(
    model: nn.Module, name: str, given: Assigned | EmbeddingTable, weights: Any, bits: int | None, rows: str
) -> _Plan:
    old = _find(model, name)
    _check_table(model, name, old)
    if weights is not None:
        weights = weight_array(f"weights of {name!r}", weights, old.num_embeddings)
    try:
        table = _fitted(given, old) if isinstance(given, EmbeddingTable) else _codebook(name, given, old, weights, bits)
    except InputError as error:
        raise InputError(f"{name!r}: {error}") from error
    module: nn.Module = table
    if isinstance(old, nn.EmbeddingBag) and not isinstance(table, CodebookEmbeddingBag):
        module = TableBag(table, **bag_options(old))
    held = [(other, found) for other, found in model.named_modules(remove_duplicate=False) if found is old]
    places = [(model.get_submodule(other.rpartition(".")[0]), other.rpartition(".")[2]) for other, _ in held]
    aliases = tuple(other for other, _ in held if other != name)
    takes_rows = table is given and rows == "trained" and not table.keeps_rows
    return _Plan(name, places, aliases, old, table, module, takes_rows, weights)


def _codebook(
    name: str, assigned: Assigned, old: nn.Embedding | nn.EmbeddingBag, weights: Any, bits: int | None
) -> CodebookEmbedding:
    if isinstance(assigned, nn.Module):  # a `TableBag`, say, which is made here
        raise InputError(f"table must be an EmbeddingTable, or assignments, got {assigned._get_name()}")
    given, kinds = joined(f"of {name!r}", assigned)
    if len(given.labels) != old.num_embeddings:
        raise InputError(
            f"assignments of {name!r} must have one entry a row of the table ({old.num_embeddings}), "
            f"got {len(given.labels)}"
        )
    kind = CodebookEmbeddingBag if isinstance(old, nn.EmbeddingBag) else CodebookEmbedding
    codebook = kind.from_pretrained(old, given.labels, given.secondary, weights, bits=bits)
    codebook.kinds = kinds
    return codebook


def _fitted(table: EmbeddingTable, old: nn.Embedding | nn.EmbeddingBag) -> EmbeddingTable:
    """A table that was given, on the device and with the padding of the one that it replaces."""
    wanted, got = (old.num_embeddings, old.embedding_dim), (table.num_embeddings, table.embedding_dim)
    if wanted != got:
        raise InputError(f"table must be of {wanted[0]} ids and {wanted[1]} dimensions, got {got[0]} and {got[1]}")
    if isinstance(table, CodebookEmbeddingBag):
        if not isinstance(old, nn.EmbeddingBag):
            raise InputError("table must be no bag in the place of an nn.Embedding")
        if bag_options(table) != bag_options(old):
            raise InputError(f"table must be a bag of {bag_options(old)}, got {bag_options(table)}")
    if table.padding_idx is None:
        table.set_padding(old.padding_idx)
    elif table.padding_idx != old.padding_idx:
        raise InputError(f"table must have the padding_idx {old.padding_idx}, got {table.padding_idx}")
    return table.to(old.weight.device) if table.row_parameter is None else table.to(old.weight)


def check_compressible(
    model: nn.Module, name: str, optimizer: torch.optim.Optimizer | None = None, *, argument: str = "tables"
) -> nn.Embedding | nn.EmbeddingBag:
    """The table of this name; the InputError of `compress_module` where it, or its optimizer, could not be replaced.

    `argument` is what has named it.
    """
    _check_model(model)
    table = _find(model, name, argument)
    _check_table(model, name, table)
    if optimizer is not None:
        check_optimizer(optimizer, name, table.weight, sparse=table.sparse)
    return table


def _check_model(model: nn.Module) -> None:
    check_model(model)
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise InputError(
            "model must be compressed before DistributedDataParallel wraps it, got a wrapped one: its buckets hold "
            "the old tables"
        )


def _find(model: nn.Module, name: str, argument: str = "tables") -> nn.Embedding | nn.EmbeddingBag:
    modules = dict(model.named_modules(remove_duplicate=False))
    module = modules.get(name) if name else None
    if type(module) in _COMPRESSED:
        return module  # type: ignore[return-value]
    tables = [other for other, found in modules.items() if other and type(found) in _COMPRESSED]
    listed = f"the tables of this model are {', '.join(map(repr, tables))}" if tables else "this model has none"
    got = f"{name!r}" if module is None else f"{name!r}, a {type(module).__name__}"
    raise InputError(f"{argument} must name an nn.Embedding or nn.EmbeddingBag, got {got}; {listed}")


def _check_table(model: nn.Module, name: str, table: nn.Embedding | nn.EmbeddingBag) -> None:
    check_arguments(repr(name), table)
    weight = table.weight
    hooks = [value for key, value in vars(table).items() if key.endswith("_hooks")]
    hooks += [weight._backward_hooks, getattr(weight, "_post_accumulate_grad_hooks", None)]
    if any(hooks) or hasattr(table, "parametrizations"):
        raise InputError(f"{name!r} must have no hooks and no parametrizations, which a codebook would lose")
    own = {*table._parameters, *table._buffers, *table._modules, *(vars(table).keys() & {"forward"})} - {"weight"}
    if own:
        raise InputError(f"{name!r} must be as PyTorch makes it, got {min(own)!r} beside, which a codebook would lose")
    for place, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _REGISTERED and any(held is table or held is weight for held in _held(value)):
                holder = f"{place}.{attribute}".lstrip(".")
                raise InputError(
                    f"{name!r} must be held as a module alone, and {holder!r} is an attribute that holds it, too, and "
                    "would keep the table that there was"
                )
    for other, parameter in model.named_parameters(remove_duplicate=False):
        owner = model.get_submodule(other.rpartition(".")[0])
        if parameter is table.weight and owner is not table:
            raise InputError(f"{name!r} must have a weight of its own, got one that is also {other!r}: untie the two")


def _held(value: Any) -> Iterable[Any]:
    """What an attribute holds: itself, or what is in a list or a mapping."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple | set) else (value,)


def _replace(plan: _Plan, optimizer: torch.optim.Optimizer | None, own: set[nn.Parameter]) -> TableReport:
    weight, table = plan.old.weight, plan.table
    before = after = 0
    if optimizer is not None:
        before, after = move_state(optimizer, weight, table, [each for each in table.parameters() if each not in own])
    for parent, attribute in plan.places:
        setattr(parent, attribute, plan.module)
    size = Size.of(table.stored())
    return TableReport(
        name=plan.name,
        aliases=plan.aliases,
        rows_before=len(weight),
        rows_after=size.rows,
        parameters_before=weight.numel(),
        parameters_after=size.parameters,
        bytes_before=weight.nbytes,
        bytes_after=size.nbytes,
        optimizer_bytes_before=before,
        optimizer_bytes_after=after,
    )
