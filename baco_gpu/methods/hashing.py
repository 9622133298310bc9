"""Hashing: nodes share codebook rows by chance; what is looked at, if anything, is how often a node occurs.

Frequency, double and hybrid hashing follow the definitions that the papers compared with use (GraphHash, arXiv
2412.17245, section 5.1). Rows are dealt to the two sides in proportion to their nodes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.labelled import Labelled

# The share of a side's rows that its most frequent nodes have for themselves.
FREQUENT = 0.5


def hashed_secondary(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A second label for every node, uniform over the labels in use."""
    used = np.unique(labels)
    return used[generator.integers(0, len(used), len(labels))].astype(labels.dtype) if len(used) else labels.copy()


def hashed(graph: BipartiteGraph, rows: Target, seed: int, *, frequent: float = 0.0, double: bool = False) -> Sides:
    """Rows for both sides, of which the most frequent nodes have a share for themselves, a row each.

    The others draw a row of those that are left, or with `double` two.
    """
    generator = np.random.default_rng(seed)
    degrees = (np.asarray(graph.user_degrees), np.asarray(graph.item_degrees))
    shares = deal_rows((graph.num_users, graph.num_items), rows)
    users, items = (
        _hashed_side(side, share, generator, int(frequent * share), double)
        for side, share in zip(degrees, shares, strict=True)
    )
    return users, items


def _hashed_side(
    degrees: np.ndarray, rows: int, generator: np.random.Generator, frequent: int, double: bool
) -> Assignment:
    """`rows - frequent` rows drawn by chance, and the rows after them one for each of the most frequent nodes."""
    shared = rows - frequent
    labels = generator.integers(0, max(shared, 1), len(degrees), dtype=np.int32)
    alone = np.argsort(-degrees, kind="stable")[:frequent]
    drawn = np.ones(len(degrees), dtype=bool)
    drawn[alone] = False
    labels[alone] = shared + np.arange(len(alone), dtype=np.int32)
    if not double:
        return Assignment(labels)
    secondary = np.full(len(degrees), NO_LABEL, dtype=np.int32)
    secondary[drawn] = hashed_secondary(labels[drawn], generator)
    # Two draws of the same row are one: no index is spent on it.
    return Assignment(labels, np.where(secondary == labels, NO_LABEL, secondary))


RANDOM = Labelled(
    name="random",
    family="hashing",
    shared="nodes that draw the same row",
    when="as the floor that sharing by data has to beat",
    source="GraphHash, arXiv 2412.17245",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed),
)
FREQUENCY = replace(
    RANDOM,
    name="frequency",
    shared="frequent nodes alone, the others draw a row",
    when=Labelled.when,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, frequent=FREQUENT),
)
# The published embedding is the sum of the two rows, twice their mean.
DOUBLE = replace(
    FREQUENCY,
    name="double",
    shared="every node draws two rows, and is their mean",
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, double=True),
    second_rows=True,
)
HYBRID = replace(
    DOUBLE,
    name="hybrid",
    shared="frequent nodes alone, the others draw two rows",
    source="Zhang et al., arXiv 2007.14523",
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, frequent=FREQUENT, double=True),
)
