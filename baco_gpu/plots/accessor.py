"""`result.plot`: the pictures of a clustering, where one looks for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from baco_gpu.clustering.result import ResultData
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots import coclusters as pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ResultPlots:
    """The functions of `baco_gpu.plots.coclusters` for one result; each returns the matplotlib Axes it drew on."""

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
        return "result.plot: sizes(), trace(), blocks(graph), quality_vs_budget(graph or comparison=folder)"
