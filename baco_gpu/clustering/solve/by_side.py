"""A number of codebook rows for users and another one for items, each met to the row by one solve.

Co-clusters are merged until the first side has its rows, and on until the other one has: each side takes its labels
from where its own number was met. So users of ten times the rows of items are in the small co-clusters that merging
passes through, and items in the large ones that it ends with, both at the full depth of the schedule. The labels that
one side has in both partitions then say which of them stand for one another, and both sides share one label space.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import ITEMS, USERS, Backend, Partition, Problem
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.clustering.solve.multilevel import Descent
from baco_gpu.clustering.solve.targets import excesses

Labels = tuple[Any, Any]


def partitions_by_side(descent: Descent, target: tuple[int | None, int | None]) -> tuple[Partition, Partition]:
    """Where the users have their rows, and where the items have theirs, on the way down to both.

    A side without a number takes the last partition. Each number is between the one row of a side with nodes and the
    rows that its nodes have in singletons: merging passes through all numbers between.
    """
    left = list(target)
    kept: list[Partition | None] = [None, None]
    while any(wanted is not None for wanted in left):
        users, items = left
        partition = descent.to((users, items)).copy()
        for (side,), rows in excesses(descent.rows, (users, items)):
            if rows <= 0:
                kept[side], left[side] = partition, None
    first, second = (each if each is not None else partition for each in kept)
    return first, second


def joined(
    backend: Backend, problem: Problem, sides: tuple[Partition, Partition], secondary: Labels
) -> tuple[Partition, Labels]:
    """One partition with the users' labels of the first and the items' of the second, and secondary labels alike.

    Parameters
    ----------
    sides : pair of Partition under labels 0..K-1, of which one was made of the other by merging and refinement
    secondary : pair of label arrays, each of its own partition, or None

    Returns
    -------
    Partition under labels 0..K-1, and the pair of secondary labels. The side of more co-clusters names them. A
    co-cluster of the other side has the name of one whose nodes are mostly its own, of these the one of which it has
    most by weight; where there is none, it has a name of its own.
    """
    if sides[USERS] is sides[ITEMS]:
        return sides[USERS], secondary
    fine = USERS if sides[USERS].num_labels >= sides[ITEMS].num_labels else ITEMS
    coarse = 1 - fine
    small, large = (backend.to_host(sides[side].labels[fine]).astype(np.int64) for side in (fine, coarse))
    names = standing_for(small, large, backend.to_host(problem.sides[fine].node_weights), sides[coarse].num_labels)
    named = [backend.to_host(sides[side].labels[side]) for side in (USERS, ITEMS)]
    owned = np.unique(named[coarse])
    # Those without a name follow after all others.
    nameless = owned[names[owned] == NO_LABEL]
    names[nameless] = sides[fine].num_labels + np.arange(len(nameless))
    named[coarse] = names[named[coarse]]
    used = np.union1d(*named)

    def on_device(labels: np.ndarray) -> Any:
        places = np.where(labels == NO_LABEL, NO_LABEL, np.searchsorted(used, labels))
        return backend.xp.asarray(places, dtype=sides[fine].labels[fine].dtype)

    second = [None if labels is None else backend.to_host(labels).astype(np.int64) for labels in secondary]
    if second[coarse] is not None:
        second[coarse] = np.where(second[coarse] == NO_LABEL, NO_LABEL, names[second[coarse]])
    users, items = map(on_device, named)
    user_second, item_second = (None if labels is None else on_device(labels) for labels in second)
    partition = Partition(
        (users, items),
        backend.volumes(problem, (users, items), len(used)),
        backend.weight_within(problem, (users, items)),
    )
    return partition, (user_second, item_second)


def standing_for(small: np.ndarray, large: np.ndarray, weights: np.ndarray, num_large: int) -> np.ndarray:
    """For every large co-cluster the small one that stands for it, -1 for none; no two have the same.

    `small` and `large` are the labels of the same nodes (or of both ends of the same edges), of these weights.
    """
    kinds, inverse = np.unique(small * num_large + large, return_inverse=True)
    shared = np.zeros(len(kinds), dtype=np.int64)
    np.add.at(shared, inverse, weights)
    parts, wholes = np.divmod(kinds, num_large)
    # Of equal weights the smaller label: `kinds` are in the order of both.
    homes = _first_of(parts, np.lexsort((-shared, parts)))
    names = np.full(num_large, NO_LABEL, dtype=np.int64)
    best = homes[_first_of(wholes[homes], np.lexsort((-shared[homes], wholes[homes])))]
    names[wholes[best]] = parts[best]
    return names


def _first_of(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The first place in `order` of every value."""
    return order[np.unique(values[order], return_index=True)[1]]
