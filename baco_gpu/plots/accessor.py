"""`result.plot`: the pictures of a clustering, where one looks for them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from baco_gpu.clustering.result import ResultData
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots import coclusters as pictures
from baco_gpu.plots.named import named_clusters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ResultPlots:
    """The functions of `baco_gpu.plots.coclusters` for one result; each returns the matplotlib Axes it drew on.

    `clusters` draws on a Figure of its own.
    """

    def __init__(self, result: ResultData) -> None:
        self._result = result

    def sizes(self, ax: Axes | None = None) -> Axes:
        """How large the co-clusters are."""
        return pictures.sizes(self._result, ax)

    def trace(self, ax: Axes | None = None) -> Axes:
        """The objective after every sweep and merging step."""
        return pictures.trace(self._result, ax)

    def blocks(self, graph: BipartiteGraph, ax: Axes | None = None, *, bins: int = 256) -> Axes:
        """The interaction matrix reordered by co-cluster; InputError for a graph of other users or items."""
        return pictures.blocks(self._result, graph, ax, bins=bins)

    def clusters(
        self, names: Mapping[Any, str] | None = None, *, side: str = "items", count: int = 6, members: int = 8
    ) -> Figure:
        """The largest co-clusters with the names of their best-known members, on a Figure of their own; see
        `baco_gpu.plots.named.named_clusters`."""
        return named_clusters(self._result, names, side=side, count=count, members=members)

    def quality_vs_budget(
        self,
        graph: BipartiteGraph | None = None,
        ax: Axes | None = None,
        *,
        budgets: Sequence[float] = pictures.BUDGETS,
        comparison: str | os.PathLike[str] | None = None,
        model: str | None = None,
        metric: str = "recall@20",
    ) -> Axes:
        """With a graph, the share of interactions inside co-clusters at several budgets, each clustered anew; with the
        folder of a comparison (`baco compare --out`), recall at its budgets.

        `budgets` goes with a graph; `model`, where the comparison has several, and `metric` with a comparison.
        """
        return pictures.quality_vs_budget(
            self._result, graph, ax, budgets=budgets, comparison=comparison, model=model, metric=metric
        )

    def __repr__(self) -> str:
        kinds = "sizes(), trace(), blocks(graph), clusters(names), quality_vs_budget(graph or comparison=folder)"
        return f"result.plot: {kinds}"
