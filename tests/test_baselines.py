"""Baselines: they spend just the rows they are given, and repeat."""

from __future__ import annotations

import numpy as np
import pytest

from baco_gpu.baselines.hashing import random_hashing
from baco_gpu.errors import InputError, MissingExtraError
from graphs import random_graph


@pytest.mark.parametrize(("num_users", "num_items", "rows"), [(900, 300, 400), (5, 1000, 12), (1000, 5, 2), (0, 50, 7)])
def test_random_hashing_spends_at_most_its_rows(num_users, num_items, rows):
    users, items = random_hashing(num_users, num_items, rows, seed=1)
    assert (len(users), len(items)) == (num_users, num_items)
    used = len(np.unique(users)) + len(np.unique(items))
    assert 0.8 * rows - 2 <= used <= rows
    again = random_hashing(num_users, num_items, rows, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip((users, items), again, strict=True))
    if num_users:
        assert users.max() < rows
        other = random_hashing(num_users, num_items, rows, seed=2)
        assert rows < 20 or not np.array_equal(users, other[0])


def test_random_hashing_needs_a_row_a_side():
    with pytest.raises(InputError, match="rows must be at least 2, one for each side, got 1"):
        random_hashing(10, 10, 1, seed=0)


def test_louvain_meets_the_rows_from_below():
    pytest.importorskip("sknetwork")
    from baco_gpu.baselines.louvain import louvain_at_rows

    graph = random_graph(400, 300, 3000, seed=2)
    clustering = louvain_at_rows(graph, 200, seed=0)
    assert 190 <= clustering.rows <= 200
    assert (len(clustering.users), len(clustering.items)) == (400, 300)
    with pytest.raises(InputError, match="at most 1 codebook rows"):
        louvain_at_rows(graph, 1, seed=0)


def test_louvain_names_the_extra_it_needs(monkeypatch):
    from baco_gpu.baselines.louvain import louvain

    monkeypatch.setitem(__import__("sys").modules, "sknetwork.clustering", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'baco_gpu\[baselines\]'"):
        louvain(random_graph(10, 10, 30, seed=0), 1.0, 0)
