"""Pictures of one clustering. Each takes matplotlib Axes to draw on, or makes them, and returns them to be restyled.

Colours are Okabe and Ito's, or shades of blue, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.clustering.inspect.coverage import check_same_sides, coverage
from baco_gpu.clustering.result import ResultData
from baco_gpu.clustering.solve.cocluster import cocluster
from baco_gpu.clustering.solve.parameters import SolverParameters
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.graph.edges import edge_chunks
from baco_gpu.plots.comparison import budget_lines
from baco_gpu.plots.comparison_file import read_comparison
from baco_gpu.progress import silent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USERS, ITEMS, MARK = "#0072B2", "#E69F00", "#555555"
_LEAST_FRAME = 0.01  # of users, and of items, that a co-cluster has to have to be framed
BUDGETS = (0.05, 0.1, 0.25, 0.5)


def sizes(result: ResultData, ax: Axes | None = None) -> Axes:
    """How large the co-clusters are: members against rank, largest first, on logarithmic axes."""
    axes = _axes(ax)
    for name, side, colour in (("users", result.users, USERS), ("items", result.items, ITEMS)):
        held = np.sort(side.sizes(result.num_clusters))[::-1]
        held = held[held > 0]
        axes.plot(np.arange(1, len(held) + 1), held, color=colour, label=f"{name}: {len(held):,} co-clusters")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("co-clusters, largest first")
    axes.set_ylabel("members")
    axes.legend(frameon=False)
    return axes


def trace(result: ResultData, ax: Axes | None = None) -> Axes:
    """The objective Q after every sweep and merging step, in units of edge weight."""
    axes = _axes(ax)
    steps = np.arange(1, len(result.objective_trace) + 1)
    axes.plot(steps, result.objective_trace, color=USERS, marker="o", markersize=4)
    axes.set_xlabel("sweeps and merging steps")
    axes.set_ylabel("objective Q (edge weight)")
    return axes


def block_counts(
    result: ResultData, graph: BipartiteGraph, bins: int = 256
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Edges in the tiles of the interaction matrix, with users and items in the order of their co-clusters.

    The co-cluster with most edges inside comes first. Takes two passes over the edges in pieces: memory does not grow
    with them.

    Returns
    -------
    counts : int64 array of shape (at most bins, at most bins)
        A side of fewer nodes than `bins` has a tile for each of them.
    sizes : pair of int64 arrays
        The users of every row of tiles, and the items of every column.

    Raises
    ------
    InputError
        If the graph has other numbers of users or items than the result, or `bins` is below 1.
    """
    check_integer("bins", bins, minimum=1)
    check_same_sides(result, graph)
    return _block_counts(result, graph, bins, _by_edges_inside(result, graph))


def blocks(result: ResultData, graph: BipartiteGraph, ax: Axes | None = None, *, bins: int = 256) -> Axes:
    """The interaction matrix reordered by co-cluster, those with most edges first: what stays inside is the diagonal.

    A tile's colour is its edges over the pairs that it could hold, from white to dark blue; a tile without edges is
    blank. Frames are the borders of the co-clusters that are large enough to see.

    Parameters
    ----------
    graph : BipartiteGraph
        What was clustered, or another graph of the same users and items.
    bins : int
        Tiles a side at most.

    Raises
    ------
    InputError
        As `block_counts` does.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    check_integer("bins", bins, minimum=1)
    check_same_sides(result, graph)
    order = _by_edges_inside(result, graph)
    counts, (heights, widths) = _block_counts(result, graph, bins, order)
    axes = _axes(ax)
    density = np.ma.masked_equal(counts / np.maximum(np.outer(heights, widths), 1), 0)
    extent = (0, max(graph.num_items, 1), max(graph.num_users, 1), 0)
    # At least one decade, and one too where there is no edge to scale by.
    lowest = density.min() if density.count() else 0.1
    norm = LogNorm(lowest, max(density.max(), 10 * lowest) if density.count() else 1)
    image = axes.imshow(density, cmap="Blues", norm=norm, aspect="auto", extent=extent)
    axes.figure.colorbar(image, ax=axes, label="share of the possible pairs")
    rows, columns = (side.sizes(result.num_clusters)[order] for side in (result.users, result.items))
    seen = (rows >= _LEAST_FRAME * graph.num_users) & (columns >= _LEAST_FRAME * graph.num_items)
    corners = np.cumsum(columns) - columns, np.cumsum(rows) - rows
    frames = [Rectangle(*frame) for frame in zip(zip(*corners, strict=True), columns, rows, strict=True)]
    shown = [frame for frame, large in zip(frames, seen, strict=True) if large]
    axes.add_collection(PatchCollection(shown, facecolor="none", edgecolor=ITEMS, linewidth=0.8), autolim=False)
    axes.set_xlabel("items, by co-cluster")
    axes.set_ylabel("users, by co-cluster")
    return axes


def _by_edges_inside(result: ResultData, graph: BipartiteGraph) -> np.ndarray:
    """The co-clusters, the one with most edges inside first."""
    within = np.zeros(result.num_clusters, np.int64)
    for users, items, _ in edge_chunks(graph):
        own = result.users.labels[users]
        within += np.bincount(own[own == result.items.labels[items]], minlength=len(within))
    return np.argsort(-within, kind="stable")


def _block_counts(
    result: ResultData, graph: BipartiteGraph, bins: int, order: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    row_of, column_of = (_tiles(rank[side.labels], bins) for side in (result.users, result.items))
    sizes = np.bincount(row_of), np.bincount(column_of)
    shape = len(sizes[0]), len(sizes[1])
    counts = np.zeros(shape[0] * shape[1], np.int64)
    for users, items, _ in edge_chunks(graph):
        counts += np.bincount(row_of[users] * shape[1] + column_of[items], minlength=len(counts))
    return counts.reshape(shape), sizes


class QualityPoint(NamedTuple):
    """What a budget keeps: its share of the full table, and the shares of edges inside co-clusters."""

    budget: float
    primary: float
    with_secondary: float


def quality_points(result: ResultData, graph: BipartiteGraph, budgets: Sequence[float] = BUDGETS) -> list[QualityPoint]:
    """Cluster `graph` anew at every budget, otherwise as `result` was; returns the shares of edges that stay inside.

    Raises
    ------
    InputError
        If there is no budget, or one cannot be met on this graph.
    """
    if not len(budgets):
        raise InputError("budgets must hold at least one budget, got none")
    check_same_sides(result, graph)
    fixed = {**result.settings, "random_state": result.seed}
    if fixed.get("solver") == "paper":
        fixed["gamma"] = None  # here it is gamma that meets the budget
    points = []
    for budget in sorted(budgets):
        parameters = {**fixed, "budget": budget}
        found = cocluster(graph, SolverParameters(**parameters).check_parameters(), parameters, silent)
        share = found.parameters_compressed / max(found.table.full_parameters, 1)
        points.append(QualityPoint(share, *coverage(found, graph)))
    return points


def quality_vs_budget(
    result: ResultData,
    graph: BipartiteGraph | None = None,
    ax: Axes | None = None,
    *,
    budgets: Sequence[float] = BUDGETS,
    comparison: str | os.PathLike[str] | None = None,
    model: str | None = None,
    metric: str = "recall@20",
) -> Axes:
    """What a budget keeps, against its share of the full table's parameters.

    With a graph: the share of interactions that stay inside co-clusters, by clustering anew at every budget. With a
    comparison: the recall of every method in it, where a dotted line marks the parameters of this result.

    Parameters
    ----------
    graph : BipartiteGraph, optional
        What was clustered, or another graph of the same users and items.
    budgets : sequence of float
        Shares of the full table at which to cluster the graph.
    comparison : path, optional
        A folder that `baco compare --out` wrote, or the comparison.csv in it, of tables as large as this result's.
    model : str, optional
        Which recommender of the comparison, where it has several.
    metric : str
        Which figure of the comparison: recall, recall_capped or ndcg, @10, @20 or @50.

    Raises
    ------
    InputError
        Unless there is either a graph or a comparison; as `quality_points` and `read_comparison` do; when the
        comparison has other tables, or several models and none is named.
    """
    if (graph is None) == (comparison is None):
        raise InputError(f"give either a graph or a comparison, got {'neither' if graph is None else 'both'}")
    if comparison is not None:
        rows = _of_model(read_comparison(comparison, metric), model)
        _check_same_table(result, rows)
        return _recall_vs_budget(result, rows, metric, _axes(ax))
    assert graph is not None
    points = quality_points(result, graph, budgets)
    axes = _axes(ax)
    shares = [100 * point.budget for point in points]
    axes.plot(shares, [100 * point.with_secondary for point in points], color=ITEMS, marker="s", label="with secondary")
    axes.plot(shares, [100 * point.primary for point in points], color=USERS, marker="o", label="primary co-clusters")
    axes.set_xlabel("parameters (% of the full table)")
    axes.set_ylabel("interactions inside (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def _of_model(rows: list[dict[str, Any]], model: str | None) -> list[dict[str, Any]]:
    models = list(dict.fromkeys(row["model"] for row in rows))
    if model is None and len(models) > 1:
        raise InputError(f"model must be named where a comparison has several ({', '.join(models)}), got None")
    if model is not None:
        check_choice("model", model, models)
    return [row for row in rows if model in (None, row["model"])]


def _check_same_table(result: ResultData, rows: list[dict[str, Any]]) -> None:
    full = result.table.full_parameters
    other = next((row["parameters_full"] for row in rows if row["parameters_full"] != full), None)
    if other is not None:
        raise InputError(
            f"comparison must be of tables of {full:,} parameters, as the full table of the result, got {other:,.0f}: "
            "compare the same users and items at the same embedding_dim"
        )


def _recall_vs_budget(result: ResultData, rows: list[dict[str, Any]], metric: str, axes: Axes) -> Axes:
    budget_lines(axes, rows, metric)
    if rows[0]["measure"] == "bytes":
        share = result.bytes_compressed / max(result.table.full_bytes, 1)
    else:
        share = result.parameters_compressed / max(result.table.full_parameters, 1)
    axes.axvline(share, color=MARK, linestyle=":", linewidth=1.2)
    axes.annotate(
        "this result",
        (share, 0),
        (4, 4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=MARK,
        fontsize=9,
    )
    return axes


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _tiles(ranks: np.ndarray, bins: int) -> np.ndarray:
    """The tile of every node, when nodes stand in the order of their co-clusters' ranks."""
    place = np.empty(len(ranks), np.int64)
    place[np.argsort(ranks, kind="stable")] = np.arange(len(ranks))
    return place * min(bins, len(ranks)) // max(len(ranks), 1)
