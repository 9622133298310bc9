"""`result.plot`: the pictures of a clustering, where one looks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baco_gpu.clustering.result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots import result as pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ResultPlots:
    """The functions of `baco_gpu.plots.result` for one result; each returns the matplotlib Axes it drew on."""

    def __init__(self, result: CoclusteringResult) -> None:
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
        self, graph: BipartiteGraph, ax: Axes | None = None, *, budgets: Sequence[float] = pictures.BUDGETS
    ) -> Axes:
        """The share of interactions inside co-clusters at several budgets, each clustered anew."""
        return pictures.quality_vs_budget(self._result, graph, ax, budgets=budgets)

    def __repr__(self) -> str:
        return "result.plot: sizes(), trace(), blocks(graph), quality_vs_budget(graph)"
