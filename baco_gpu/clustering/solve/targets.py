"""How many codebook rows a solver is to leave: of both sides together, or of each."""

from __future__ import annotations

from baco_gpu.clustering.backends.backend import ITEMS, USERS, Excess

# One number for both sides, or a pair of them, for users and for items; None for a side, or for all, that Q decides.
Target = int | tuple[int | None, int | None] | None


def excesses(rows: tuple[int, int], target: Target) -> list[Excess]:
    """What a codebook with so many rows of users and of items has beyond each number of the target."""
    if target is None:
        return []
    if isinstance(target, int):
        return [Excess((USERS, ITEMS), sum(rows) - target)]
    return [Excess((side,), rows[side] - wanted) for side, wanted in enumerate(target) if wanted is not None]


def steps(rows: tuple[int, int], target: Target, levels: int) -> list[Target]:
    """Where each merging step stops: geometric from `rows` to the target, which is the last one."""

    def step(rows: int, wanted: int, level: int) -> int:
        shrink = min(1.0, wanted / max(rows, 1))
        return round(rows * shrink ** (level / levels))

    def between(level: int) -> Target:
        if target is None:
            return None
        if isinstance(target, int):
            return step(sum(rows), target, level)
        users, items = (
            None if wanted is None else step(count, wanted, level) for count, wanted in zip(rows, target, strict=True)
        )
        return users, items

    return [*map(between, range(1, levels)), target]
