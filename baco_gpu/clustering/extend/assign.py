"""New users and items: their co-clusters from their first interactions, with no retraining.

A new node gets the label that a sweep would give it: the one of the best score  sum of its edge weights to the label
- gamma * w * V_other(label),  ties to the smallest, among the labels of its neighbors that its own side owns, so that
there is a codebook row for it. Where there is none, since an item's co-cluster may have items alone, neighbors stand
for the partners of their co-clusters, which have the side. The best of the others is its secondary label. Nothing else
changes: the volumes are those of the graph that was clustered, so that it does not matter which new nodes come first,
or together (but for those that get the largest co-cluster for want of a neighbor: it is the largest by then).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_choice
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Array, Backend, Partition, Problem
from baco_gpu.clustering.extend.growth import GrownGraph, GrownSide, grow
from baco_gpu.clustering.result import NO_LABEL, Assignment, Result, ResultData, WeightScale
from baco_gpu.clustering.solve.weights import scaled_weights
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph

FALLBACKS = ("refuse", "largest", "drop")
_SIDES = ("users", "items")
_NAMED = 10


def assign(result: Result, interactions: Any, *, fallback: str = "refuse") -> Result:
    """Extend a result by new users and items.

    Parameters
    ----------
    result : CoclusteringResult
    interactions : BipartiteGraph, Interactions, pair of id arrays, data frame, or whatever `as_graph` takes
        By raw id where the result has raw ids (a graph or interactions without a vocabulary are then taken to hold
        them), by index elsewhere, with new nodes after the old ones. What counts is interactions of a new node with a
        known one; those between two known or two new nodes are passed over.
    fallback : {"refuse", "largest", "drop"}
        What to do with new nodes without a known neighbor that has an interaction in the clustered graph: raise, and
        name them; give them the most frequent label of their side (the smallest such label); or leave them out, which
        takes raw ids.

    Returns
    -------
    CoclusteringResult
        Labels, secondary labels where the side has them, degrees (the known neighbors of a new node) and vocabulary of
        old and new nodes. A vocabulary is in the order of its ids, so indices of old nodes may move;
        `CodebookEmbedding.resize` takes the new labels as they are. Everything else, such as objective and volumes,
        still describes the clustered graph.

    Raises
    ------
    InputError
        If the interactions are not what they must be, new nodes have nowhere to go under "refuse", a side has no raw
        ids under "drop", or the result does not know how its nodes were weighed.
    """
    check_choice("fallback", fallback, FALLBACKS)
    if result.scale is None:
        raise InputError("result must know its weight scale, as one that BalancedCoclustering makes does, got none")
    if fallback == "drop" and None in (result.users.vocabulary, result.items.vocabulary):
        raise InputError("fallback='drop' must have raw ids on both sides, got a side without (indices would move)")
    grown, backend = grow(result, interactions), get_backend("cpu")
    graph = _first_interactions(grown)
    problem = backend.load(graph, scaled_weights(graph, result.scale))
    labels = unplaced_labels(problem, grown, result.num_clusters)
    partition = Partition(labels, _integer_volumes(result.volumes, result.scale), within=0)
    penalty = result.gamma * result.scale.penalty_per_gamma
    # New nodes of the other side are nobody's neighbors here, so that either side may come first.
    found = [
        placed(backend, problem, partition, side, here, result.partners, penalty, secondary=here.secondary)
        for side, here in enumerate(grown.sides)
    ]
    lost = [np.flatnonzero(side.labels == NO_LABEL) for side in found]
    if fallback == "refuse" and any(map(len, lost)):
        raise InputError(_refusal(result, grown, lost))
    for side in (USERS, ITEMS):
        if fallback == "largest" and len(lost[side]):
            found[side].labels[lost[side]] = largest_label(grown, side)
    old = (result.users, result.items)
    users, items = (_assigned(problem, side, grown.sides[side], found[side], old[side]) for side in (USERS, ITEMS))
    return replace(result, users=users, items=items)


def unplaced_labels(problem: Problem, grown: GrownGraph, nobody: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels of both sides, those of new nodes `nobody`: one beyond all others."""
    dtype = problem.sides[USERS].neighbors.dtype
    users, items = (np.where(side.is_new, nobody, side.labels).astype(dtype) for side in grown.sides)
    return users, items


class Placed(NamedTuple):
    """Labels of a side on the host, -1 for new nodes that have nowhere to go, and the secondary ones if asked for."""

    labels: np.ndarray
    secondary: np.ndarray | None


def placed(
    backend: Backend,
    problem: Problem,
    partition: Partition,
    side: int,
    grown: GrownSide,
    partners: np.ndarray | None,
    penalty: float,
    *,
    secondary: np.ndarray | None = None,
) -> Placed:
    """Labels for the new nodes of a side; `partition` has the `unplaced_labels`, `partners` are those of the result.

    `secondary` has the secondary labels of the old nodes, where the new ones are to have some too. "Second best" is the
    best there is for a node whose own label is nobody's.
    """
    labels, second = grown.labels.copy(), None if secondary is None else secondary.copy()
    views = [partition] if partners is None else [partition, _by_partners(backend.xp, partition, side, partners)]
    for view in views:
        lost = labels == NO_LABEL
        if not lost.any():
            break
        labels[lost] = backend.to_host(backend.second_best(problem, view, side, penalty))[lost]
        if second is not None:
            now = backend.xp.asarray(np.where(labels == NO_LABEL, partition.num_labels - 1, labels))
            view = _with_labels(view, side, now.astype(view.labels[side].dtype))
            second[lost] = backend.to_host(backend.second_best(problem, view, side, penalty))[lost]
    return Placed(labels, second)


def largest_label(grown: GrownGraph, side: int) -> int:
    """The label that most known nodes of a side have, the smallest such; InputError where there are none."""
    known = grown.sides[side].labels[~grown.sides[side].is_new]
    if not len(known):
        raise InputError(f"{_SIDES[side]} of the result must be some, to have a largest co-cluster; got none")
    return int(np.bincount(known).argmax())


def _by_partners(xp: Any, partition: Partition, side: int, partners: np.ndarray) -> Partition:
    """The partition with the other side's nodes in the partners of their co-clusters, where those lack this side."""
    other = 1 - side
    labels = partition.labels[other]
    partner = xp.asarray(np.append(partners, NO_LABEL), dtype=labels.dtype)[labels]
    return _with_labels(partition, other, xp.where(partner == NO_LABEL, labels, partner))


def _with_labels(partition: Partition, side: int, labels: Array) -> Partition:
    users, items = partition.labels
    return replace(partition, labels=(labels, items) if side == USERS else (users, labels))


def _first_interactions(grown: GrownGraph) -> BipartiteGraph:
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


def _assigned(problem: Problem, side: int, here: GrownSide, found: Placed, old: Assignment) -> Assignment:
    """The side as it is now, without new nodes that have no label."""
    degrees = here.degrees
    if degrees is not None:
        degrees = np.where(here.is_new, np.diff(problem.sides[side].offsets), degrees)
    unseen = None
    if old.unseen is not None:
        unseen = np.zeros_like(old.unseen, shape=len(here))
        unseen[~here.is_new] = old.unseen
    grown = Assignment(found.labels, found.secondary, here.vocabulary, degrees, unseen)
    kept = np.flatnonzero(found.labels != NO_LABEL)
    return grown if len(kept) == len(grown) else grown.take(kept)


def _refusal(result: ResultData, grown: GrownGraph, lost: list[np.ndarray]) -> str:
    """What new nodes have nowhere to go."""
    parts = []
    for name, side, nodes in zip(_SIDES, grown.sides, lost, strict=True):
        if len(nodes):
            first = nodes[:_NAMED] if side.vocabulary is None else side.vocabulary.decode(nodes[:_NAMED])
            more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
            parts.append(
                f"new {name} must have an interaction with a known one that leads to a co-cluster with {name}, "
                f"got {len(nodes)} without: {', '.join(map(repr, first.tolist()))}{more}"
            )
    remedy = "fallback='largest' gives them the largest co-cluster"
    if None not in (result.users.vocabulary, result.items.vocabulary):
        remedy += ", 'drop' leaves them out"
    if result.partners is None:
        remedy += "; a result fitted anew finds more, as this one is from before co-clusters of one side had partners"
    return f"{'; '.join(parts)} ({remedy})"
