"""A clustering and a graph that has more users and items: both numbered anew, over the ids of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from baco_gpu.clustering.result import NO_LABEL, Assignment, ResultData
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph, as_graph


@dataclass(frozen=True, eq=False)
class GrownSide:
    """One side of both.

    Attributes
    ----------
    labels : integer array of shape (nodes,), the co-cluster of every node, -1 for a new one
    secondary : array of the same shape, -1 for none and for a new node; None where the side has none
    degrees : integer array of the same shape, 0 for a new node; None where they are not known
    vocabulary : Vocabulary or None, the raw ids of all nodes
    places : int64 array, the node that every node of the graph is
    is_new : bool array of shape (nodes,)
    """

    labels: np.ndarray
    secondary: np.ndarray | None
    degrees: np.ndarray | None
    vocabulary: Vocabulary | None
    places: np.ndarray
    is_new: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, nodes: np.ndarray) -> GrownSide:
        """Some nodes alone, by strictly increasing index, without the places of those of the graph."""
        assert self.vocabulary is not None
        secondary, degrees = (None if part is None else part[nodes] for part in (self.secondary, self.degrees))
        vocabulary = self.vocabulary.take(nodes)
        return GrownSide(self.labels[nodes], secondary, degrees, vocabulary, np.empty(0, np.int64), self.is_new[nodes])


@dataclass(frozen=True, eq=False)
class GrownGraph:
    """Both sides, users first, and the edges of the graph between them."""

    sides: tuple[GrownSide, GrownSide]
    users: np.ndarray
    items: np.ndarray
    weights: np.ndarray | None

    def without(self, gone: tuple[np.ndarray, np.ndarray]) -> GrownGraph:
        """The same without some nodes of both sides, and without their edges; it takes raw ids."""
        kept = [np.flatnonzero(~side) for side in gone]
        sides = [side.take(nodes) for side, nodes in zip(self.sides, kept, strict=True)]
        stay = ~(gone[0][self.users] | gone[1][self.items])
        users, items = (
            (np.cumsum(~side) - 1)[ends[stay]] for side, ends in zip(gone, (self.users, self.items), strict=True)
        )
        return GrownGraph((sides[0], sides[1]), users, items, None if self.weights is None else self.weights[stay])

    def graph(self) -> BipartiteGraph:
        """The graph, over all nodes."""
        users, items = self.sides
        return BipartiteGraph.from_edges(
            self.users,
            self.items,
            self.weights,
            num_users=len(users),
            num_items=len(items),
            user_vocabulary=users.vocabulary,
            item_vocabulary=items.vocabulary,
        )


def grow(result: ResultData, interactions: Any) -> GrownGraph:
    """Number the nodes of a result and of interactions together.

    Where the result has raw ids the interactions are read by raw id (where they have no vocabulary, their indices are
    taken for raw ids), and all are numbered in the order of their ids; elsewhere they are read by index, and new nodes
    come after the old ones. A node of the interactions without a vocabulary counts only if it has an interaction,
    unless it stands beside a result by index.

    Raises
    ------
    InputError
        If the interactions are none that `as_graph` takes, or the two do not name nodes in the same way.
    """
    graph = _as_graph(result, interactions).to("cpu")
    users = _grown("users", result.users, graph.user_vocabulary, graph.user_degrees)
    items = _grown("items", result.items, graph.item_vocabulary, graph.item_degrees)
    ends = np.repeat(np.arange(graph.num_users), graph.user_degrees)
    return GrownGraph((users, items), users.places[ends], items.places[graph.csr.neighbors], graph.csr.weights)


def _as_graph(result: ResultData, source: Any) -> BipartiteGraph:
    """A pair of id arrays is one of raw ids where the result has those; anything else is what `as_graph` says."""
    if not (isinstance(source, tuple) and len(source) == 2):
        return as_graph(source)
    arrays, vocabularies = [], []
    for ids, side in zip(source, (result.users, result.items), strict=True):
        vocabulary = None if side.vocabulary is None else Vocabulary(ids)
        arrays.append(ids if vocabulary is None else vocabulary.lookup(ids))
        vocabularies.append(vocabulary)
    return BipartiteGraph.from_edges(*arrays, user_vocabulary=vocabularies[0], item_vocabulary=vocabularies[1])


def _grown(name: str, side: Assignment, vocabulary: Vocabulary | None, degrees: np.ndarray) -> GrownSide:
    if side.vocabulary is None:
        if vocabulary is not None:
            raise InputError(f"{name} must be named by index, as those of the result are, got raw ids")
        size, merged = max(len(side), len(degrees)), None
        old, places = np.arange(len(side)), np.arange(len(degrees))
    else:
        named = vocabulary
        if named is None:
            named = Vocabulary.from_sorted_integers(np.flatnonzero(degrees))
        try:
            merged = side.vocabulary.union(named)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        size, old = len(merged), side.vocabulary.positions_in(merged)
        places = named.positions_in(merged)
        if vocabulary is None:  # nodes without an interaction are nowhere, and no edge asks for their place
            everywhere = np.full(len(degrees), -1, np.int64)
            everywhere[np.flatnonzero(degrees)] = places
            places = everywhere

    def spread(values: np.ndarray | None, missing: int) -> np.ndarray | None:
        if values is None:
            return None
        out = np.full(size, missing, values.dtype)
        out[old] = values
        return out

    is_new = np.ones(size, dtype=bool)
    is_new[old] = False
    labels = spread(side.labels, NO_LABEL)
    assert labels is not None
    return GrownSide(labels, spread(side.secondary, NO_LABEL), spread(side.degrees, 0), merged, places, is_new)
