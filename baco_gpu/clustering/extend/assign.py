"""New users and items: their co-clusters from their first interactions, with no retraining.

A new node gets the label that a sweep would give it: the one of the best score  sum of its edge weights to the label
- gamma * w * V_other(label),  ties to the smallest, among the labels of its neighbors that its own side owns, so that
there is a codebook row for it. The best of the others is its secondary label. Nothing else changes: the volumes are
those of the graph that was clustered, so that it does not matter which new nodes come first, or together (but for
those that get the largest co-cluster for want of a neighbor: it is the largest by then).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Backend, Partition, Problem
from baco_gpu.clustering.extend.growth import GrownSide, Growth, grow
from baco_gpu.clustering.result import NO_LABEL, Assignment, Result, WeightScale
from baco_gpu.clustering.solve.weights import scaled_weights
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

FALLBACKS = ("refuse", "largest")
_SIDES = ("users", "items")


def assign(result: Result, interactions: Any, *, fallback: str = "refuse") -> Result:
    """Extend a result by new users and items.

    Parameters
    ----------
    result : CoclusteringResult
    interactions : BipartiteGraph, Interactions, pair of id arrays, data frame, or whatever `as_graph` takes
        By raw id where the result has raw ids (a graph or interactions without a vocabulary are then taken to hold
        them), by index elsewhere, with new nodes after the old ones. What counts is interactions of a new node with a
        known one; those between two known or two new nodes are passed over.
    fallback : {"refuse", "largest"}
        What to do with a new node none of whose neighbors has a label that its own side owns: raise, or give it the
        label that most nodes of its side have (the smallest such label).

    Returns
    -------
    CoclusteringResult
        Labels, secondary labels where the side has them, degrees (the known neighbors of a new node) and vocabulary
        of old and new nodes. A vocabulary is in the order of its ids, so that indices of old nodes may move;
        `CodebookEmbedding.resize` takes the new labels as they are. The rest, objective and volumes among it, still
        describes the graph that was clustered.

    Raises
    ------
    InputError
        If the interactions are not what they must be, a new node has no label to get under "refuse", or the result
        does not know how its nodes were weighed.
    """
    check_choice("fallback", fallback, FALLBACKS)
    if result.scale is None:
        raise InputError("result must know its weight scale, as one that BalancedCoclustering makes does, got none")
    grown, backend = grow(result, interactions), get_backend("cpu")
    graph = _first_interactions(grown)
    problem = backend.load(graph, scaled_weights(graph, result.scale))
    labels = unplaced_labels(problem, grown, result.num_clusters)
    partition = Partition(labels, _integer_volumes(result.volumes, result.scale), within=0)
    penalty = result.gamma * result.scale.penalty_per_gamma
    # New nodes of the other side are nobody's neighbors here, so that either side may come first.
    users, items = (_assigned(backend, problem, partition, side, grown, penalty, fallback) for side in (USERS, ITEMS))
    return replace(result, users=users, items=items)


def unplaced_labels(problem: Problem, grown: Growth, nobody: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels of both sides, those of new nodes `nobody`: one beyond all others."""
    dtype = problem.sides[USERS].neighbors.dtype
    users, items = (np.where(side.is_new, nobody, side.labels).astype(dtype) for side in grown.sides)
    return users, items


def placed_labels(
    backend: Backend, problem: Problem, partition: Partition, side: int, grown: GrownSide, penalty: float, fallback: str
) -> np.ndarray:
    """The labels of a side on the host, with a label for every new node; `partition` has the `unplaced_labels`.

    "Second best" is the best there is for a node whose own label is nobody's.

    Raises
    ------
    InputError
        If there is none for a new node, under the fallback "refuse".
    """
    labels = grown.labels.copy()
    if grown.is_new.any():
        best = backend.to_host(backend.second_best(problem, partition, side, penalty))
        labels[grown.is_new] = best[grown.is_new]
        lost = np.flatnonzero(labels == NO_LABEL)
        labels[lost] = _fallback(side, grown, lost, fallback)
    return labels


def _first_interactions(grown: Growth) -> BipartiteGraph:
    """The edges between a new node and a known one."""
    users, items = grown.sides
    telling = users.is_new[grown.users] != items.is_new[grown.items]
    return BipartiteGraph.from_edges(
        grown.users[telling],
        grown.items[telling],
        None if grown.weights is None else grown.weights[telling],
        num_users=len(users),
        num_items=len(items),
    )


def _integer_volumes(volumes: tuple[np.ndarray, np.ndarray], scale: WeightScale) -> tuple[np.ndarray, np.ndarray]:
    """The volumes as the integers that they were, and 0 for nobody."""
    users, items = (np.append(np.rint(part * scale.node_unit).astype(np.int64), 0) for part in volumes)
    return users, items


def _assigned(
    backend: Backend, problem: Problem, partition: Partition, side: int, grown: Growth, penalty: float, fallback: str
) -> Assignment:
    here = grown.sides[side]
    labels = placed_labels(backend, problem, partition, side, here, penalty, fallback)
    secondary, degrees = here.secondary, here.degrees
    if secondary is not None:
        pair = (labels, partition.labels[ITEMS]) if side == USERS else (partition.labels[USERS], labels)
        second = backend.second_best(problem, replace(partition, labels=pair), side, penalty)
        secondary = np.where(here.is_new, second, secondary)
    if degrees is not None:
        degrees = np.where(here.is_new, np.diff(problem.sides[side].offsets), degrees)
    return Assignment(labels, secondary, here.vocabulary, degrees)


def _fallback(side: int, grown: GrownSide, lost: np.ndarray, fallback: str) -> np.ndarray | int:
    """The label of new nodes that no neighbor gives one."""
    if not len(lost):
        return NO_LABEL
    name, known = _SIDES[side], grown.labels[~grown.is_new]
    if fallback == "refuse":
        first = int(lost[0]) if grown.vocabulary is None else grown.vocabulary.decode(int(lost[0]))
        raise InputError(
            f"new {name} must have an interaction with a known one in a co-cluster that has {name}, got {len(lost)} "
            f"without, {first!r} first (fallback='largest' gives them the largest co-cluster)"
        )
    if not len(known):
        raise InputError(f"{name} of the result must be some, to have a largest co-cluster; got none")
    return int(np.bincount(known).argmax())
