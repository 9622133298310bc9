"""What is no argument of its kind is refused in one line that names it, before anything is done."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from baco_gpu import BalancedCoclustering, BipartiteGraph, load_interactions, load_split
from baco_gpu.errors import InputError

FRAME = pd.DataFrame({"user": [0, 0, 1, 1], "item": [0, 1, 1, 2]})
ODD = ["abc", 3, 2.5, True, [], ["a", "b"], {}, np.zeros((5, 2), int), np.array(3), object(), b"01", FRAME, int]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_odd_values_are_named(value):
    graph = BipartiteGraph.from_edges([0, 1], [0, 1])
    calls = {
        "interactions": lambda: BipartiteGraph.from_interactions(value),
        "user_vocabulary": lambda: BipartiteGraph.from_edges([0, 1], [0, 1], user_vocabulary=value),
        "item_vocabulary": lambda: BipartiteGraph.from_scipy(graph.to_scipy(), item_vocabulary=value),
        "process_group": lambda: BalancedCoclustering(budget=0.5, process_group=value).fit(graph),
        "format": lambda: load_interactions(FRAME, format=value),
    }
    for name, call in calls.items():
        with pytest.raises(InputError, match=f"^{name} must be [^\n]*, got [^\n]*$"):
            call()
    with pytest.raises(InputError, match=r"^format must be one of"):
        load_split(FRAME, format=value)


def test_a_split_is_no_interactions():
    with pytest.raises(InputError, match=r"^interactions must be Interactions, .* or one part of a split, got Split"):
        BipartiteGraph.from_interactions(load_split(FRAME))
