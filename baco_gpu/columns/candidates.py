"""Tables on their way to being small: what each could be stored as, and what a budget makes of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baco_gpu.columns.division import divide
from baco_gpu.columns.event_log import Column
from baco_gpu.columns.pairing import LEAST_BITS, Known, Partner, graph_of, partners_of
from baco_gpu.columns.storage import (
    FULL,
    CoclusterRows,
    FewBitRows,
    Lookups,
    ProductCodes,
    Storage,
    StorageChoice,
    TrellisCodes,
)
from baco_gpu.columns.table_plan import PlannedTable
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.progress import Progress

# The smallest tables keep their rows while they take no more than this of the budget: what they could give is little.
_SMALL = 1 / 20
OF_ONE_TABLE: dict[str, type[ProductCodes] | type[TrellisCodes] | type[FewBitRows]] = {
    kind.name: kind for kind in (ProductCodes, TrellisCodes, FewBitRows)
}


@dataclass(eq=False)
class Candidate:
    """A table on its way to being small.

    Attributes
    ----------
    lookups : Lookups
    seen : bool
        Whether data say which of its rows are looked up, and with which others.
    only : sequence of str or None
        The methods that suit it, where these are not all.
    """

    lookups: Lookups
    seen: bool = True
    only: Sequence[str] | None = None
    partners: Sequence[Partner] = ()
    methods: Sequence[Storage] = ()
    reason: str = ""
    may_share: bool = False

    def __post_init__(self) -> None:
        self.name, self.full_cost = self.lookups.column.name, self.lookups.full_cost
        self.stored = self.lookups.full()
        self.ways = [self.stored]

    def look(self, others: Sequence[Column], share: float, methods: Sequence[str], seed: int, known: Known) -> None:
        """Find what tells something of the table, and try ways to store it around this share of its cost."""
        methods = [name for name in methods if self.only is None or name in self.only]
        self.may_share = CoclusterRows.name in methods and self.seen
        if self.may_share:
            self.partners = partners_of(self.lookups.column, others, seed, known)
        shared = [CoclusterRows(self.lookups, graph_of(self.lookups.column, self.partners))] if self.partners else []
        self.methods = (*shared, *(kind(self.lookups) for name, kind in OF_ONE_TABLE.items() if name in methods))
        costs = [(method, math.floor(cost)) for method in self.methods for cost in method.costs(share * self.full_cost)]
        tried = [method.at(cost) for method, cost in costs if 0 < cost < self.full_cost]
        self.ways += [way for way in tried if way is not None]

    def within(self, cost: int) -> StorageChoice:
        """The way that is chosen, as good as it gets for so much."""
        if self.stored.method == FULL or cost >= self.full_cost:
            return self.lookups.full()
        # Others of the same price are found at once; clustering anew is done for who shares rows already.
        own = OF_ONE_TABLE if self.stored.method in OF_ONE_TABLE else (self.stored.method,)
        found = (method.at(cost) for method in self.methods if method.name in own)
        return min((way for way in found if way is not None), key=lambda way: way.error, default=self.stored)

    @property
    def why(self) -> str:
        """Why no rows are shared."""
        if self.reason or self.stored.method == CoclusterRows.name:
            return self.reason
        if self.stored.method == FULL and len(self.ways) > 1:
            return "the budget has room for all rows"
        if not self.may_share:
            return ""
        return "errs less than shared rows" if self.partners else f"no column tells {LEAST_BITS:g} bits of it"

    def planned(self, bytes_after: int | None) -> PlannedTable:
        """What was chosen, and the bytes that came of it; None for a table that is left alone."""
        method, before = self.stored.method, self.lookups.size.full_bytes
        return PlannedTable(
            name=self.name,
            ids=self.lookups.column.size,
            rows=self.stored.rows,
            bytes_before=before,
            bytes_after=before if bytes_after is None else bytes_after,
            method=method,
            partners={each.column.name: each.bits for each in self.partners} if method == CoclusterRows.name else {},
            error=self.stored.error / (self.lookups.spread or math.inf) if self.stored.error else 0.0,
            reason=self.why,
        )


def choose(candidates: Sequence[Candidate], ratio: float, methods: Sequence[str], seed: int, progress: Progress) -> int:
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
        others = [other.lookups.column for other in candidates if other is not each and other.seen]
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


def _small(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """The smallest tables, which together take no more than `_SMALL` of the budget."""
    small, taken = [], 0
    for each in sorted(candidates, key=lambda each: each.full_cost):
        taken += each.full_cost
        if taken > _SMALL * most:
            break
        small.append(each)
    return small


def _least(candidates: Sequence[Candidate]) -> int:
    """What the cheapest way to store each of these tables costs."""
    return sum(min(way.cost for way in each.ways) for each in candidates)


def _reachable(candidates: Sequence[Candidate], most: int) -> int:
    """What has to be spent at least: with more, further tables are small, and keep their rows."""
    needed = most + 1
    while needed > most:
        most = needed
        small = _small(candidates, most)
        kept = sum(each.full_cost for each in small)
        needed = max(most, kept + _least([each for each in candidates if each not in small]))
    return needed
