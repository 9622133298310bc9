"""LEGCF (Liang et al., SIGIR 2024, arXiv 2403.18479): every id weighs two rows, and finds better ones while training.

METIS cuts the graph, and the ids of a part share a row, at a weight of 0.9, beside one drawn by chance at 0.1. Between
epochs the assignment is solved for: with ids and rows propagated over the graph that both are nodes of, the weights
`S` of least squares in `H_ids = S H_rows`, of which every id keeps the two greatest.

What differs from the authors' description and code: users and items have a codebook each, as all methods here (there
is one for both); rows are nodes of the graph in the update alone, while training propagates ids over interactions as
for every other method, and no tanh is taken of embeddings; weights below zero are zero, for a graph has none. As theirs
does, a first training keeps to the assignment of METIS until it has converged, and an update follows every epoch
thereafter; the best epoch of both is what stays, where they report one of each. The two weights of an id are counted as
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from baco_gpu.budget import TableSize
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.data.normalised import inverse_root, normalised
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import needing
from baco_gpu.methods.common.search import KnobSearch
from baco_gpu.methods.common.sides import Sides, coclusters
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.method import Package
from baco_gpu.methods.reassign import SharedRows
from baco_gpu.precision import bits_of
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

# The authors' weight of a part's row, the rest being that of the one drawn, and their layers on Gowalla.
SHARES = (0.9, 0.1)
_LAYERS = 3
_BLOCK = 1 << 23  # weights that are there at a time


def metis_pairs(graph: BipartiteGraph, seed: int) -> Callable[[Target], Sides]:
    """METIS at the number of parts that a number of rows asks for, and a second row drawn for every node.

    Raises
    ------
    MissingExtraError
        If pymetis is not installed.
    """
    parts = KnobSearch(
        "legcf", lambda knob: metis_parts(graph, round(knob), seed), 1, max(graph.num_users + graph.num_items, 1)
    )

    def solve(rows: Target) -> Sides:
        generator = np.random.default_rng(seed)
        users, items = (_with_another(side.labels, generator) for side in parts(rows))
        return users, items

    return solve


def solve_assignments(
    graph: BipartiteGraph, sides: Sequence[SharedRows], generator: np.random.Generator
) -> list[SharedRows]:
    """The step that LEGCF takes between epochs: new rows and weights for all ids; codebooks stay as they are.

    A side of fewer than two rows is left alone.
    """
    ids, rows = _propagated(graph, sides)
    return [
        side if len(side.codebook) < 2 else side._replace(**_two_greatest(own, np.linalg.pinv(shared)))
        for side, own, shared in zip(sides, ids, rows, strict=True)
    ]


def metis_parts(graph: BipartiteGraph, count: int, seed: int) -> Sides:
    """Users and items as METIS cuts the graph into so many parts; nodes without an edge are one part more."""
    with needing("pymetis", "legcf"):
        import pymetis
    edges = graph.to_scipy()
    both = scipy.sparse.block_array([[None, edges], [edges.T, None]], format="csr")
    labels = np.zeros(both.shape[0], dtype=np.int64)
    if count > 1 and both.nnz:
        options = pymetis.Options(seed=seed % 2**31)
        adjacency = pymetis.CSRAdjacency(both.indptr.astype(np.int64), both.indices.astype(np.int64))
        # Not in `count` parts at once, as by default: of many parts that leaves up to half without a node.
        labels = np.array(pymetis.part_graph(count, adjacency, recursive=True, options=options).vertex_part)
    return coclusters(graph, (labels[: graph.num_users], labels[graph.num_users :]))


def _with_another(labels: np.ndarray, generator: np.random.Generator) -> Assignment:
    """A second label for every node, drawn from all but its own."""
    used, rows = np.unique(labels, return_inverse=True)
    if len(used) < 2:
        return Assignment(labels, np.full(len(labels), NO_LABEL, dtype=labels.dtype))
    drawn = (rows + generator.integers(1, len(used), len(labels))) % len(used)
    return Assignment(labels, used[drawn])


def _propagated(graph: BipartiteGraph, sides: Sequence[SharedRows]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The mean of layers 0 to `_LAYERS` of users and items, and of the rows of both, over the graph of all four.

    That has the normalised interactions between users and items, and the weights between ids and rows; it is
    normalised again as a whole.
    """
    interactions = graph.to_scipy().astype(np.float64)
    between = normalised(interactions)
    users, items = (_assignment(side) for side in sides)
    whole = scipy.sparse.block_array(
        [
            [None, between, users, None],
            [between.T, None, None, items],
            [users.T, None, None, None],
            [None, items.T, None, None],
        ],
        format="csr",
    )
    scale = scipy.sparse.diags_array(inverse_root(np.asarray(whole.sum(axis=1))))
    whole = scale @ whole @ scale
    layer = np.concatenate([*(side.table for side in sides), *(side.codebook for side in sides)]).astype(np.float64)
    mean = layer.copy()
    for _ in range(_LAYERS):
        layer = whole @ layer
        mean += layer
    mean /= _LAYERS + 1
    ends = np.cumsum([*(len(side.assignments) for side in sides), *(len(side.codebook) for side in sides)])
    parts = np.split(mean, ends[:-1])
    return parts[:2], parts[2:]


def _assignment(side: SharedRows) -> scipy.sparse.coo_array:
    """The weights as a matrix of ids by rows."""
    ids = np.tile(np.arange(len(side.assignments)), 2)
    rows = np.concatenate([side.assignments, side.secondary])
    return scipy.sparse.coo_array(
        (side.shares.T.ravel(), (ids, rows)), shape=(len(side.assignments), len(side.codebook))
    )


def _two_greatest(ids: np.ndarray, inverse: np.ndarray) -> dict[str, np.ndarray]:
    """The two greatest entries of every row of `ids @ inverse`, of which only some rows are there at a time."""
    places = np.empty((len(ids), 2), dtype=np.int64)
    values = np.empty((len(ids), 2))
    step = max(1, _BLOCK // inverse.shape[1])
    for start in range(0, len(ids), step):
        weights = ids[start : start + step] @ inverse
        every = np.arange(len(weights))
        for rank in range(2):
            best = weights.argmax(axis=1)
            places[start : start + step, rank] = best
            values[start : start + step, rank] = weights[every, best]
            weights[every, best] = -np.inf
    return {"assignments": places[:, 0], "secondary": places[:, 1], "shares": np.maximum(values, 0.0)}


@dataclass(frozen=True, kw_only=True)
class Legcf(Labelled):
    """Labels of METIS, and tables whose ids weigh their two rows."""

    def tables(self, sides: Sides, size: TableSize) -> Sequence[EmbeddingTable]:
        dim, bits = size.embedding_dim, bits_of(size.codebook_dtype)
        return [WeightedCodebookEmbedding(side.labels, dim, side.secondary, shares=SHARES, bits=bits) for side in sides]


METHOD = Legcf(
    name="legcf",
    family="learned",
    shared="METIS's row and one drawn, and their weights solved for between epochs",
    source="LEGCF, arXiv 2403.18479",
    solver=metis_pairs,
    second_rows=True,
    weights=2,
    reassign=solve_assignments,
    reassign_when="converged",
    served=False,
    joint=True,
    requires=Package("pymetis", "pymetis"),
)
