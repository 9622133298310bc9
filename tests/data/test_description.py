"""What a set of interactions is like, against plain counting."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.description import QUANTILES, degrees_of, describe
from baco_gpu.data.interactions import Interactions
from baco_gpu.plots.degrees import degree_figure
from tiers import examples

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=40)


def interactions_of(pairs: list[tuple[int, int]]) -> Interactions:
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int32) for side in (0, 1))
    return Interactions(users, items, 7, 6)


@examples(80)
@given(pairs=PAIRS)
def test_counts_are_those_of_a_plain_graph(pairs):
    figures = describe(interactions_of(pairs))
    graph = nx.Graph([(("u", user), ("i", item)) for user, item in pairs])
    parts = list(nx.connected_components(graph))
    assert figures["num_pairs"] == len(set(pairs)) == len(pairs) - figures["repeated"]
    assert figures["density"] == len(set(pairs)) / 42
    assert figures["components"] == len(parts)
    assert figures["largest_component"] == (max(map(len, parts)) / len(graph) if parts else 0)
    assert figures["users_without"] == 7 - len({user for user, _ in pairs})
    for side, count, at in (("user", 7, 0), ("item", 6, 1)):
        degrees = sorted(sum(pair[at] == node for pair in set(pairs)) for node in range(count))
        row = figures[f"{side}_degrees"]
        assert (row["min"], row["max"]) == (degrees[0], degrees[-1])
        assert row["mean"] == pytest.approx(sum(degrees) / count)
        assert all(row[name] in (degrees if pairs else [0]) for name in QUANTILES)
        apart = sum(abs(one - other) for one in degrees for other in degrees)
        assert row["gini"] == pytest.approx(apart / (2 * count * max(sum(degrees), 1)))
    assert figures["weights"] is figures["timestamps"] is None


def test_ranges_are_plain_numbers():
    interactions = interactions_of([(0, 0), (1, 1)])
    with_more = Interactions(*(interactions.users, interactions.items, 7, 6), weights=np.array([0.5, 2.0]))
    assert describe(with_more)["weights"] == {"min": 0.5, "max": 2.0}


@pytest.mark.parametrize("pairs", [[(0, 0), (0, 1), (1, 1)], []])
def test_the_picture_has_both_sides_and_says_what_it_shows(pairs):
    figure = degree_figure(*degrees_of(interactions_of(pairs)), title="clicks")
    (axes,) = figure.axes
    assert axes.get_title() == "clicks"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("distinct partners, at least", "share of the side")
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    if pairs:
        assert lines == {"2 users, median 1.5": [[1, 1], [2, 0.5]], "2 items, median 1.5": [[1, 1], [2, 0.5]]}
    else:
        assert lines == {"no users": [], "no items": []}
