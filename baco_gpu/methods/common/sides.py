"""What every baseline hands on: the labels of both sides, and how rows are dealt to them."""

from __future__ import annotations

import numpy as np

from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Partition
from baco_gpu.clustering.result import Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph

Sides = tuple[Assignment, Assignment]
NEITHER = (False, False)


def rows_of(sides: Sides, target: Target = None) -> int:
    """The codebook rows that a target is of: those of both sides, or of the one that has a number."""
    wanted = target if isinstance(target, tuple) else (0, 0)
    return sum(side.rows for side, number in zip(sides, wanted, strict=True) if number is not None)


def number_of(target: Target) -> int:
    """The rows of a target: one number, or that of the side that has one."""
    return sum(number or 0 for number in target) if isinstance(target, tuple) else target or 0


def deal_rows(sizes: tuple[int, int], rows: Target) -> tuple[int, int]:
    """Deal codebook rows to two sides in proportion to their nodes, each side with nodes getting at least one.

    A number for each side is dealt already: no side gets more rows than nodes, and one row does where there is none.

    Raises
    ------
    UnreachableBudgetError
        If there are fewer rows than sides with nodes.
    """
    users, items = sizes
    if not isinstance(rows, int):
        own = (None, None) if rows is None else rows
        return min(own[USERS] or 1, users), min(own[ITEMS] or 1, items)
    needed = sum(size > 0 for size in sizes)
    if rows < needed:
        raise UnreachableBudgetError(f"rows must be at least {needed}, one for each side, got {rows}")
    share = 0 if not users else rows if not items else round(rows * users / (users + items))
    if needed == 2:
        # A side with more rows than nodes would leave rows unused.
        share = min(max(share, 1, rows - items), rows - 1)
    return min(share, users), min(rows - share, items)


def coclusters(
    graph: BipartiteGraph,
    labels: tuple[np.ndarray, np.ndarray],
    secondary: tuple[bool, bool] = NEITHER,
    resolution: float = 0.0,
) -> Sides:
    """Co-clusters as assignments under labels 0..K-1; nodes without an edge share one label, as they do in ours.

    Parameters
    ----------
    labels : integers of shapes (num_users,) and (num_items,), in one label space
    secondary : pair of bool
        Which sides get secondary clusters: the second-best label of every node (arXiv 2604.18351, section 4.3).
    resolution : float
        Of Barber's bipartite modularity, by which the second-best label is the best; 0 counts edges alone.
    """
    users, items = (np.array(side, dtype=np.int64) for side in labels)
    isolated = (np.asarray(graph.user_degrees) == 0, np.asarray(graph.item_degrees) == 0)
    spare = 1 + max(users.max(initial=-1), items.max(initial=-1))
    users[isolated[USERS]], items[isolated[ITEMS]] = spare, spare
    used, compact = np.unique(np.concatenate([users, items]), return_inverse=True)
    compact = compact.astype(np.int32)
    pair = (compact[: len(users)].copy(), compact[len(users) :].copy())
    if not any(secondary):
        return Assignment(pair[USERS]), Assignment(pair[ITEMS])
    backend = get_backend("cpu")
    weights = integer_weights(graph, "degree")
    problem = backend.load(graph, weights, merging=False)
    volumes = backend.volumes(problem, pair, len(used))
    partition = Partition(pair, volumes, backend.weight_within(problem, pair))
    penalty = resolution * weights.penalty_per_gamma
    second = [
        backend.second_best(problem, partition, side, penalty) if wanted else None
        for side, wanted in zip((USERS, ITEMS), secondary, strict=True)
    ]
    return Assignment(pair[USERS], second[USERS]), Assignment(pair[ITEMS], second[ITEMS])
