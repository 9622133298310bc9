"""All tables of a model, made small in one call under one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from baco_gpu.budget import Budget
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.columns.candidates import Candidate, choose
from baco_gpu.columns.event_log import columns_of, names_in
from baco_gpu.columns.storage import FULL, CoclusterRows, Lookups, ProductCodes, TrellisCodes, build_table
from baco_gpu.columns.table_plan import Plan
from baco_gpu.errors import InputError
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.module_compression import CompressionReport, check_compressible, compress_module

METHODS = (CoclusterRows.name, ProductCodes.name, TrellisCodes.name)


@dataclass(frozen=True, repr=False)
class TablesReport(CompressionReport):
    """What `compress_tables` did: a `CompressionReport`, and the plan behind it.

    Attributes
    ----------
    tables : tuple of TableReport
        Those that were replaced.
    optimizer : torch.optim.Optimizer or None
        As of `CompressionReport`.
    plan : Plan
        All tables that `data` names, those that were left alone, too.
    """

    plan: Plan = field(default_factory=lambda: Plan((), 0, 0, "bytes"))


def compress_tables(
    model: nn.Module,
    data: Any,
    budget: float = 0.1,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    budget_measure: str = "bytes",
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    progress: Progress = silent,
) -> TablesReport:
    """Replace embedding tables of `model` in place by small ones that share one budget.

    The smallest tables are left alone. For every other one, columns that tell something about it are found
    (`baco_gpu.columns.pairing`), and co-clusters of its ids and theirs may share rows. Ids of one kind, as items in
    sequences, are clustered by the sequences that they share. Or ids keep their own rows, as codes. The budget
    goes where it lowers most the squared distance between the rows that the model looked up in `data` and those that it
    gets (`baco_gpu.columns.division`). Labels of the data are not read. Compress a model after some training: rows of
    an untrained one say nothing of what matters.

    Parameters
    ----------
    model : nn.Module
    data : mapping of name to ids, or data frame
        Names are those of tables of the model (`model.named_modules()`); tables that are not named are left alone and
        not counted. Ids are integers as the table takes them, of shape (events,), or of shape (events, ids of one) for
        bags and sequences, or a pair of ids and offsets as `torch.nn.EmbeddingBag` takes it. Ids equal to the table's
        padding index do not count.
    budget : float
        The share of these tables that is left, in (0, 1].
    optimizer : torch.optim.Optimizer, optional
        As of `compress_module`.
    budget_measure : {"bytes", "parameters"}
        What the budget is a share of; parameters are counted as in the BACO paper, which leaves indices out.
    methods : sequence of "baco-multilevel", "product" and "trellis", one at least
        How tables may be stored: rows that co-clusters share, product codes or, below a twelfth, trellis codes; of
        several, whichever errs least. Codes have no sparse gradients.
    seed : int
        The same seed, data and model give the same tables.
    progress : function
        Called as progress(phase, done, total, note).

    Returns
    -------
    TablesReport
        Train on with its `optimizer`; call `baco_gpu.tables.begin_epoch(model)` before every epoch and
        `baco_gpu.tables.finalize(model)` at the end, as after `compress_module`.

    Raises
    ------
    InputError
        When a name is no table of the model, ids are not those of its table, columns are not of as many events, or what
        `compress_module` refuses. Nothing is changed then.
    UnreachableBudgetError
        When the budget is below what the cheapest way to store every table costs.
    """
    share = Budget.of(budget, budget_measure)
    if share.ratio is None:
        raise InputError(f"budget must be a share of the tables, from 0 to 1, got {share.rows} rows")
    check_integer("seed", seed, minimum=0)
    if isinstance(methods, str) or not methods:
        raise InputError(f"methods must be a sequence of {', '.join(map(repr, METHODS))}, got {methods!r}")
    for method in methods:
        check_choice("methods", method, METHODS)
    names = names_in(data)
    modules = {name: check_compressible(model, name, optimizer, argument="data") for name in names}
    _check_tables(modules, methods)
    candidates = [
        Candidate(Lookups.of(modules[column.name], column, budget_measure, seed))
        for column in columns_of(modules, data)
    ]
    most = choose(candidates, share.ratio, methods, seed, progress)
    replaced = [each for each in candidates if each.stored.method != FULL]
    report = compress_module(
        model,
        {each.name: build_table(each.stored, modules[each.name], seed) for each in replaced},
        optimizer,
        {each.name: each.lookups.column.counts for each in replaced},
        rows="own",
        seed=seed,
    )
    after = {table.name: table.bytes_after for table in report.tables}
    planned = tuple(each.planned(after.get(each.name)) for each in candidates)
    plan = Plan(planned, most, sum(each.stored.cost for each in candidates), budget_measure)
    return TablesReport(report.tables, report.optimizer, plan)


def _check_tables(modules: Mapping[str, nn.Embedding | nn.EmbeddingBag], methods: Sequence[str]) -> None:
    names: dict[nn.Module, str] = {}
    for name, module in modules.items():
        first = names.setdefault(module, name)
        if first != name:
            raise InputError(f"data must name a table once, got {first!r} and {name!r}, which are one")
        if module.sparse and ProductCodes.name in methods:
            raise InputError(
                f"methods must be ({CoclusterRows.name!r},) for {name!r}, whose gradients are sparse, "
                f"got {tuple(methods)}"
            )
        if not module.weight.isfinite().all():
            raise InputError(f"rows of {name!r} must be finite, got NaN or infinity")
