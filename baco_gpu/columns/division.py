"""One budget divided among tables so that all of them together err least.

Every table begins with what costs least, and what lowers the error most for what it costs is bought next, of
whichever table, as long as the budget lasts. That is best for what is spent where a table's ways lie on a convex curve,
and others are left out (Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE
Transactions on Acoustics, Speech and Signal Processing 36, 1988).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from baco_gpu.columns.storage import StorageChoice


def convex(ways: Sequence[StorageChoice]) -> list[StorageChoice]:
    """The ways on the lower convex hull of error by cost, from the cheapest to that which errs least."""
    hull: list[StorageChoice] = []
    for way in sorted(ways, key=lambda way: (way.cost, way.error)):
        if hull and way.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-2], way) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(way)
    return hull


def divide(tables: Sequence[Sequence[StorageChoice]], most: int) -> list[StorageChoice]:
    """A way for each table, of all that cost at most `most`, which the cheapest ones must not exceed."""
    hulls = [convex(ways) for ways in tables]
    found = [_bought(hulls, most)]
    # A step that there was no room for may be worth more than all that was bought after it: once more with each.
    for place, (hull, chosen) in enumerate(zip(hulls, found[0], strict=True)):
        dearer = hull[hull.index(chosen) + 1 :]
        others = [*hulls[:place], dearer, *hulls[place + 1 :]]
        if dearer and sum(each[0].cost for each in others) <= most:
            found.append(_bought(others, most))
    return min(found, key=lambda ways: math.fsum(way.error for way in ways))


def _bought(hulls: Sequence[Sequence[StorageChoice]], most: int) -> list[StorageChoice]:
    """What is bought step by step, the one that lowers the error most for its cost first."""
    chosen = [0] * len(hulls)
    left = most - sum(hull[0].cost for hull in hulls)
    steps = [(_slope(*hull[:2]), place) for place, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, place = heapq.heappop(steps)
        hull, now = hulls[place], chosen[place]
        price = hull[now + 1].cost - hull[now].cost
        if price > left:
            continue  # nor is there room for what costs still more
        left -= price
        chosen[place] = now = now + 1
        if now + 1 < len(hull):
            heapq.heappush(steps, (_slope(hull[now], hull[now + 1]), place))
    return [hull[now] for hull, now in zip(hulls, chosen, strict=True)]


def _slope(cheap: StorageChoice, dear: StorageChoice) -> float:
    """What an error falls by for what it costs, below zero."""
    return (dear.error - cheap.error) / (dear.cost - cheap.cost)
