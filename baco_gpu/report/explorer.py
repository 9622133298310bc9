"""A small explorer for notebooks: move the budget, and see the co-clusters that it buys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baco_gpu.checks import check_number
from baco_gpu.clustering.inspect.statistics import describe
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots.card import result_card
from baco_gpu.plots.coclusters import blocks, sizes
from baco_gpu.visible import visible

if TYPE_CHECKING:
    import pandas

BUDGETS = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75)


class Explorer:
    """Figures, the largest co-clusters and the block picture at the budget of a slider.

    Every budget is clustered once, when it is first looked at.

    Parameters
    ----------
    graph : BipartiteGraph
    budgets : sequence of float, shares of the full table
    estimator : BalancedCoclustering, optional
        How to cluster; its budget is the slider's.

    Attributes
    ----------
    result : CoclusteringResult, of the budget that the slider stands at
    widget : ipywidgets.VBox, what a notebook shows

    Raises
    ------
    InputError
        If there are no budgets, or one is not in (0, 1].
    MissingExtraError
        If ipywidgets is not installed (extra `notebook`).
    """

    def __init__(
        self, graph: BipartiteGraph, budgets: tuple[float, ...] = BUDGETS, estimator: BalancedCoclustering | None = None
    ) -> None:
        if not len(budgets):
            raise InputError("budgets must hold at least one budget, got none")
        self.budgets = sorted(check_number("budget", budget, above=0, maximum=1) for budget in budgets)
        try:
            import ipywidgets
        except ImportError as error:
            raise MissingExtraError("the explorer needs ipywidgets: pip install 'baco_gpu[notebook]'") from error
        self.graph = graph
        self._estimator = BalancedCoclustering() if estimator is None else estimator
        self._results: dict[float, CoclusteringResult] = {}
        self._slider = ipywidgets.SelectionSlider(
            options=[(f"{budget:.0%}", budget) for budget in self.budgets],
            value=self.budgets[len(self.budgets) // 2],
            description="budget",
            continuous_update=False,
        )
        self._card = ipywidgets.HTML()
        self._pictures = ipywidgets.Output()
        self._table = ipywidgets.HTML()
        self._slider.observe(lambda change: self._show(), names="value")
        self.widget: Any = ipywidgets.VBox([self._slider, self._card, self._pictures, self._table])
        self._show()

    @property
    def result(self) -> CoclusteringResult:
        budget = self._slider.value
        if budget not in self._results:
            parameters = {**self._estimator.get_params(), "budget": budget}
            self._results[budget] = BalancedCoclustering(**parameters).fit(self.graph).result_
        return self._results[budget]

    def largest(self, count: int = 8) -> pandas.DataFrame:
        """The largest co-clusters of the present budget: sizes, volumes, and some members by raw id."""
        import pandas

        return pandas.DataFrame(describe(self.result, largest=count, members=4)["largest"])

    def _show(self) -> None:
        from matplotlib import pyplot

        self._card.value = result_card(self.result)
        self._table.value = _table(self.largest())
        self._pictures.clear_output(wait=True)
        with self._pictures, pyplot.ioff():
            figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
            sizes(self.result, left)
            blocks(self.result, self.graph, right, bins=64)
            pyplot.show()
            pyplot.close(figure)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)


def _table(largest: pandas.DataFrame) -> str:
    """The co-clusters as HTML, with the ids of each in a line."""
    shown = largest.rename(columns=lambda name: name.replace("_", " "))
    for name in ("some users", "some items"):
        shown[name] = [", ".join(map(visible, ids)) for ids in shown[name]]
    table = shown.to_html(
        index=False, border=0, justify="left", col_space={"some users": "12em"}, float_format="{:,.0f}".format
    )
    # What notebooks typeset as formulas, they leave alone in an element of these classes.
    return f'<div class="tex2jax_ignore mathjax_ignore">{table}</div>'
