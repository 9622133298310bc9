"""New users and items: their co-clusters from their first interactions, with no retraining.

A new node gets the label that a sweep would give it: the one of the best score  sum of its edge weights to the label
- gamma * w * V_other(label),  ties to the smallest, among the labels of its neighbours that its own side owns, so that
there is a codebook row for it. The best of the others is its secondary label. Nothing else changes: the volumes are
those of the graph that was clustered, so that it does not matter which new nodes come first, or together (but for
those that get the largest co-cluster for want of a neighbour: it is the largest by then).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.base import ITEMS, USERS, Backend, Partition, Problem
from baco_gpu.clustering.growth import GrownSide, Growth, grow
from baco_gpu.clustering.result import NO_LABEL, Assignment, CoclusteringResult
from baco_gpu.clustering.weights import WeightScale, scaled_weights
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

FALLBACKS = ("refuse", "largest")
_SIDES = ("users", "items")


def assign(result: CoclusteringResult, interactions: Any, *, fallback: str = "refuse") -> CoclusteringResult:
    """Extend a result by new users and items.

    Parameters
    ----------
    result : CoclusteringResult
    interactions : BipartiteGraph, Interactions, pair of id arrays, data frame, or whatever `as_graph` takes
        By raw id where the result has raw ids (a graph or interactions without a vocabulary are then taken to hold
        them), by index elsewhere, with new nodes after the old ones. What counts is interactions of a new node with a
        known one; those between two known or two new nodes are passed over.
    fallback : {"refuse", "largest"}
        What to do with a new node none of whose neighbours has a label that its own side owns: raise, or give it the
        label that most nodes of its side have (the smallest such label).

    Returns
    -------
    CoclusteringResult
        Labels, secondary labels where the side has them, degrees (the known neighbours of a new node) and vocabulary
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
    scale = known_scale(result)
    grown = grow(result, interactions)
    users, items = assigned_sides(result, grown, scale, fallback)
    return replace(result, users=users, items=items)


def known_scale(result: CoclusteringResult) -> WeightScale:
    """The weight scale of a result; InputError where it has none."""
    if result.scale is None:
        raise InputError("result must know its weight scale, as one that BalancedCoclustering makes does, got none")
    return result.scale


def assigned_sides(
    result: CoclusteringResult, grown: Growth, scale: WeightScale, fallback: str
) -> tuple[Assignment, Assignment]:
    """Both sides of the grown result, with labels for the new nodes; see `assign`."""
    backend = get_backend("cpu")
    graph = _first_interactions(grown)
    problem = backend.load(graph, scaled_weights(graph, scale))
    penalty = result.gamma * scale.penalty_per_gamma
    partition = _unassigned(problem, grown, result.volumes, scale)
    # The other side of either is asked for known nodes alone, so that both can be given their labels in turn.
    users, items = (
        _assigned(backend, problem, partition, side, grown.sides[side], penalty, fallback) for side in (USERS, ITEMS)
    )
    return users, items


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


def _unassigned(
    problem: Problem, grown: Growth, volumes: tuple[np.ndarray, np.ndarray], scale: WeightScale
) -> Partition:
    """The clustering with all new nodes under one further label, which weighs nothing and is no neighbour's."""
    nobody = len(volumes[USERS])
    dtype = problem.sides[USERS].neighbors.dtype
    labels = [np.where(side.is_new, nobody, side.labels).astype(dtype) for side in grown.sides]
    integers = [np.append(np.rint(part * scale.node_unit).astype(np.int64), 0) for part in volumes]
    return Partition((labels[USERS], labels[ITEMS]), (integers[USERS], integers[ITEMS]), within=0)


def _assigned(
    backend: Backend,
    problem: Problem,
    partition: Partition,
    side: int,
    grown: GrownSide,
    penalty: float,
    fallback: str,
) -> Assignment:
    """Two rounds of `second_best`: against no label it finds the best one, and against that one the second."""
    new = np.flatnonzero(grown.is_new)
    labels, secondary = grown.labels.copy(), grown.secondary
    best = backend.second_best(problem, partition, side, penalty)[new]
    lost = new[best == NO_LABEL]
    labels[new] = best
    labels[lost] = _fallback(side, grown, lost, fallback)
    if secondary is not None:
        pair = (labels, partition.labels[ITEMS]) if side == USERS else (partition.labels[USERS], labels)
        found = backend.second_best(problem, replace(partition, labels=pair), side, penalty)
        secondary = np.where(grown.is_new, found, secondary).astype(secondary.dtype)
    degrees = None
    if grown.degrees is not None:
        degrees = np.where(grown.is_new, np.diff(problem.sides[side].offsets), grown.degrees)
    return Assignment(labels, secondary, grown.vocabulary, degrees)


def _fallback(side: int, grown: GrownSide, lost: np.ndarray, fallback: str) -> np.ndarray | int:
    """The label of new nodes that no neighbour gives one."""
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
