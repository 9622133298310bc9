"""Block-interleaved exact ascent: sweeps that give node after node its best label, a block at a time.

The score of a user depends on item labels and item volumes only, so the best labels of a whole block of users are
independent of one another: taking them all at once is an exact block-coordinate ascent, and Q never falls. Blocks of
users and items take turns (a random quarter of the users, a quarter of the items, the next quarter of the users, ...),
which converges like moving one node at a time in random order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from baco_gpu.clustering.backends.backend import ITEMS, USERS, Array, Backend, Partition, Problem, read

NUM_BLOCKS = 4

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def singletons(backend: Backend, problem: Problem, twins: tuple[Array, Array] | None = None) -> Partition:
    """Every node in a co-cluster of its own: user u has label u, item i has label num_users + i.

    With `twins`, the first twin of every user and of every item (`baco_gpu.graph.twins`), nodes of the very same edges
    have one label: nothing tells them apart, and each takes a row from ids that have more to say. Nodes without an edge
    say nothing about where they belong and weigh nothing: all of them, users and items, share the label of the first.
    """
    xp = backend.xp
    size = problem.num_users + problem.num_items
    dtype = problem.sides[USERS].neighbors.dtype
    if twins is None:
        labels = xp.arange(size, dtype=dtype)
    else:
        users, items = twins
        labels = xp.asarray(np.concatenate([users, problem.num_users + items]), dtype=dtype)
    connected = xp.concatenate([problem.connected(side) for side in (USERS, ITEMS)])
    isolated = xp.flatnonzero(~connected)
    if len(isolated):
        labels[isolated] = isolated[0]
    sides = (labels[: problem.num_users].copy(), labels[problem.num_users :].copy())
    return Partition(sides, backend.volumes(problem, sides, size), within=0)


def sweep(
    backend: Backend,
    problem: Problem,
    partition: Partition,
    penalty: float,
    *,
    seed: int,
    number: int,
    hold_rows: bool = False,
    sides_held: tuple[int, ...] = (USERS, ITEMS),
    num_blocks: int = NUM_BLOCKS,
    after_block: Callable[[Partition], None] | None = None,
) -> int:
    """Visit every node once, in place; returns how many changed label.

    The block of a node is a hash of (seed, number of the sweep, side, node), not a draw from a sequential generator:
    it is the same on every device. With `hold_rows` the codebook keeps its rows: no cluster loses its last user or its
    last item (one member of each, another one in every sweep, keeps its label), and none gains its first; or, of one
    side alone, those that `sides_held` names.
    """
    blocks = [backend.blocks(problem, side, _stream(seed, number, side), num_blocks) for side in (USERS, ITEMS)]
    users, items = (
        _stream(seed, number, 2 + side) if hold_rows and side in sides_held else None for side in (USERS, ITEMS)
    )
    totals = backend.xp.zeros(2, dtype="int64")
    with backend.holding(partition, (users, items)) as anchors:
        for turn in range(num_blocks):
            for side in (USERS, ITEMS):
                backend.move(problem, partition, side, blocks[side][turn], penalty, anchors[side], totals)
                if after_block is not None:
                    after_block(partition)
    gained, moved = backend.to_host(totals).tolist()
    partition.within += gained
    return moved


def count_rows(backend: Backend, partition: Partition, *, shared: bool = False) -> int:
    """The codebook rows of a partition, of both sides."""
    return sum(rows_by_side(backend, partition, shared=shared))


def rows_by_side(backend: Backend, partition: Partition, *, shared: bool = False) -> tuple[int, int]:
    """The labels that users bear, and the labels that items bear; where the sides share their rows, all of them count
    as those of users."""
    owned = backend.xp.zeros((2, partition.num_labels), dtype=bool)
    for side, labels in enumerate(partition.labels):
        owned[0 if shared else side, labels] = True
    users, items = read(backend, *(backend.xp.count_nonzero(owned[side]) for side in (USERS, ITEMS)))
    return users, items


def _stream(seed: int, number: int, purpose: int) -> int:
    """A 64-bit word for each (seed, sweep, purpose), scattered by splitmix64's finaliser."""
    word = _mix((seed + _GOLDEN) & _WORD)
    word = _mix(word ^ (number * _GOLDEN & _WORD))
    return _mix(word ^ purpose)


def _mix(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)
