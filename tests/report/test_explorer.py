"""The explorer of notebooks, moved as a reader would move it."""

import sys

import matplotlib as mpl
import pytest

from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.report.explorer import Explorer
from graphs import random_graph

mpl.use("Agg")


@pytest.fixture
def graph():
    return random_graph(80, 60, 700, seed=4)


def test_the_slider_moves_figures_and_table(graph):
    pytest.importorskip("ipywidgets")
    explorer = Explorer(graph, budgets=(0.5, 0.2, 0.3))
    first = explorer.result
    assert first.settings["budget"] == 0.3
    assert f"{first.codebook_rows:,} rows" in explorer._card.value
    explorer._slider.value = 0.5
    assert explorer.result.codebook_rows > first.codebook_rows
    assert f"{explorer.result.codebook_rows:,} rows" in explorer._card.value
    assert str(explorer.largest().users[0]) in explorer._table.value
    explorer._slider.value = 0.3
    assert explorer.result is first, "every budget is clustered once"
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_mistakes_are_named(graph, monkeypatch):
    with pytest.raises(InputError, match="at least one budget"):
        Explorer(graph, budgets=())
    with pytest.raises(InputError, match="budget must be"):
        Explorer(graph, budgets=(0.2, 1.5))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingExtraError, match=r"baco_gpu\[notebook\]"):
        Explorer(graph)
