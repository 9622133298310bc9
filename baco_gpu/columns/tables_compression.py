"""All tables of a model, made small in one call under one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from baco_gpu.budget import Budget
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.columns.division import divide
from baco_gpu.columns.event_log import Column, columns_of, names_in
from baco_gpu.columns.pairing import LEAST_BITS, Known, Partner, graph_of, partners_of
from baco_gpu.columns.storage import FULL, Lookups, Method, ProductCodes, SharedRows, Stored, build_table
from baco_gpu.columns.table_plan import Plan, PlannedTable
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.module_compression import CompressionReport, check_compressible, compress_module

METHODS = (SharedRows.name, ProductCodes.name)

# The smallest tables keep their rows while they take no more than this of the budget: what they could give is little.
_SMALL = 1 / 20


@dataclass(frozen=True)
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

    The smallest tables are left alone. Of every other one it is found which columns tell something about it
    (`baco_gpu.columns.pairing`); co-clusters of its ids and of theirs may share rows. Ids of one kind alone, as items
    in sequences, are clustered by the sequences that they share. Or ids keep rows of their own, as product codes. The
    budget goes where it takes most off the squared distance between the rows that the model looks up in `data` and
    those that it had (`baco_gpu.columns.division`): labels are read nowhere. A model that has been trained on a part of
    its data knows best which rows matter; in one that has not, small tables keep most.

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
    methods : sequence of "baco-multilevel" and "product", one at least
        How tables may be stored: rows that co-clusters share, product codes, or whichever errs less. Product codes have
        no sparse gradients.
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
        _Candidate(Lookups.of(modules[column.name], column, budget_measure, seed))
        for column in columns_of(modules, data)
    ]
    most = _choose(candidates, share.ratio, methods, seed, progress)
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
    planned = tuple(each.planned(modules[each.name], after.get(each.name)) for each in candidates)
    plan = Plan(planned, most, sum(each.stored.cost for each in candidates), budget_measure)
    return TablesReport(report.tables, report.optimizer, plan)


@dataclass(eq=False)
class _Candidate:
    """A table on its way to being small."""

    lookups: Lookups
    partners: Sequence[Partner] = ()
    methods: Sequence[Method] = ()
    reason: str = ""
    may_share: bool = False

    def __post_init__(self) -> None:
        self.name, self.full_cost = self.lookups.column.name, self.lookups.full_cost
        self.stored = self.lookups.full()
        self.ways = [self.stored]

    def look(self, others: Sequence[Column], share: float, methods: Sequence[str], seed: int, known: Known) -> None:
        """Find what tells something of the table, and try ways to store it around this share of its cost."""
        self.may_share = SharedRows.name in methods
        if self.may_share:
            self.partners = partners_of(self.lookups.column, others, seed, known)
        shared = [SharedRows(self.lookups, graph_of(self.lookups.column, self.partners))] if self.partners else []
        codes = [ProductCodes(self.lookups)] if ProductCodes.name in methods else []
        self.methods = (*shared, *codes)
        costs = [(method, math.floor(cost)) for method in self.methods for cost in method.costs(share * self.full_cost)]
        tried = [method.at(cost) for method, cost in costs if 0 < cost < self.full_cost]
        self.ways += [way for way in tried if way is not None]

    def within(self, cost: int) -> Stored:
        """The way that is chosen, as good as it gets for so much."""
        if self.stored.method == FULL or cost >= self.full_cost:
            return self.lookups.full()
        (method,) = (each for each in self.methods if each.name == self.stored.method)
        return method.at(cost) or self.stored

    @property
    def why(self) -> str:
        """Why no rows are shared."""
        if self.reason or self.stored.method == SharedRows.name:
            return self.reason
        if self.stored.method == FULL and len(self.ways) > 1:
            return "the budget has room for all rows"
        if not self.may_share:
            return ""
        return "errs less than shared rows" if self.partners else f"no column tells {LEAST_BITS:g} bits of it"

    def planned(self, module: nn.Embedding | nn.EmbeddingBag, bytes_after: int | None) -> PlannedTable:
        method, before = self.stored.method, module.weight.nbytes
        return PlannedTable(
            name=self.name,
            ids=module.num_embeddings,
            rows=self.stored.rows,
            bytes_before=before,
            bytes_after=before if bytes_after is None else bytes_after,
            method=method,
            partners={each.column.name: each.bits for each in self.partners} if method == SharedRows.name else {},
            error=self.stored.error / (self.lookups.spread or math.inf) if self.stored.error else 0.0,
            reason=self.why,
        )


def _choose(
    candidates: Sequence[_Candidate], ratio: float, methods: Sequence[str], seed: int, progress: Progress
) -> int:
    """Give every table the way to store it that is best for all of them together; returns what they may cost."""
    most = math.floor(ratio * sum(each.full_cost for each in candidates))
    small = _small(candidates, most)
    large = [each for each in candidates if each not in small]
    for each in small:
        each.reason = "small"
    left = most - sum(each.full_cost for each in small)
    full = sum(each.full_cost for each in large)
    known: Known = {}
    for done, each in enumerate(large):
        progress("plan tables", done, len(large), each.name)
        others = [other.lookups.column for other in candidates if other is not each]
        each.look(others, left / full, methods, seed, known)
    progress("plan tables", len(large), len(large), f"{len(small)} left alone")
    if _least(large) > left:
        total = sum(each.full_cost for each in candidates)
        needed = math.ceil(1e4 * _reachable(candidates, most) / total) / 1e4  # so that the number as shown can be met
        raise UnreachableBudgetError(f"budget must be at least {needed:g} of these tables, got {ratio:g}")
    for each, way in zip(large, divide([each.ways for each in large], left), strict=True):
        each.stored = way
        left -= way.cost
    # What no step was small enough for goes to the tables that err most.
    for each in sorted(large, key=lambda each: -each.stored.error):
        finer = each.within(each.stored.cost + left)
        if finer.error < each.stored.error:
            left -= finer.cost - each.stored.cost
            each.stored = finer
    return most


def _small(candidates: Sequence[_Candidate], most: int) -> list[_Candidate]:
    """The smallest tables, which together take no more than `_SMALL` of the budget."""
    small, taken = [], 0
    for each in sorted(candidates, key=lambda each: each.full_cost):
        taken += each.full_cost
        if taken > _SMALL * most:
            break
        small.append(each)
    return small


def _least(candidates: Sequence[_Candidate]) -> int:
    """What the cheapest way to store each of these tables costs."""
    return sum(min(way.cost for way in each.ways) for each in candidates)


def _reachable(candidates: Sequence[_Candidate], most: int) -> int:
    """What has to be spent at least: with more, further tables are small, and keep their rows."""
    needed = most + 1
    while needed > most:
        most = needed
        small = _small(candidates, most)
        kept = sum(each.full_cost for each in small)
        needed = max(most, kept + _least([each for each in candidates if each not in small]))
    return needed


def _check_tables(modules: Mapping[str, nn.Embedding | nn.EmbeddingBag], methods: Sequence[str]) -> None:
    names: dict[nn.Module, str] = {}
    for name, module in modules.items():
        first = names.setdefault(module, name)
        if first != name:
            raise InputError(f"data must name a table once, got {first!r} and {name!r}, which are one")
        if module.sparse and ProductCodes.name in methods:
            raise InputError(
                f"methods must be ({SharedRows.name!r},) for {name!r}, whose gradients are sparse, got {tuple(methods)}"
            )
        if not module.weight.isfinite().all():
            raise InputError(f"rows of {name!r} must be finite, got NaN or infinity")
