"""The objective: exact at any size, and equal to its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.solve.objective import objective, volume_product
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from graphs import random_graph

CPU = get_backend("cpu")

volumes = st.integers(0, 2**62)


@given(st.lists(st.tuples(volumes, volumes), max_size=30))
def test_the_product_of_volumes_is_exact(pairs):
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    assert volume_product(CPU, users, items) == sum(user * item for user, item in pairs)


@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62 - 1, 2**62])
def test_the_product_of_many_large_volumes_is_exact(value):
    many = np.full(100_000, value, dtype=np.int64)
    assert volume_product(CPU, many, many) == 100_000 * value**2


def test_the_volumes_are_left_alone():
    users, items = np.array([3, 5]), np.array([7, 2**40])
    users.flags.writeable = items.flags.writeable = False
    assert volume_product(CPU, users, items) == 21 + 5 * 2**40


def test_objective_by_hand():
    # Two clusters: 3 users' weight by 2 items', and 5 by 7; 11 of the edges' weight inside; unit 4.
    value = objective(CPU, 11, (np.array([3, 5]), np.array([2, 7])), penalty=0.25, unit=4.0)
    assert value == (11 - 0.25 * (3 * 2 + 5 * 7)) / 4


def test_nothing_is_worth_nothing():
    empty = np.empty(0, np.int64)
    assert objective(CPU, 0, (empty, empty), penalty=3.0) == 0.0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scheme", ["degree", "unit", "sqrt", "log", "paper"])
def test_the_reported_objective_is_that_of_the_labels(scheme, weighted):
    graph = random_graph(50, 40, 220, seed=2, weighted=weighted)
    result = BalancedCoclustering(budget=30, gamma=1.3, weights=scheme).fit(graph).result_
    matrix = graph.to_scipy().toarray()
    users, items = result.users.labels, result.items.labels
    degrees = matrix.sum(axis=1), matrix.sum(axis=0)
    transform = {
        "degree": lambda d: d,
        "paper": lambda d: d,
        "unit": lambda d: (d > 0).astype(float),
        "sqrt": np.sqrt,
        "log": np.log1p,
    }[scheme]
    w_users, w_items = map(transform, degrees)
    total = matrix.sum()
    scale = 1 / np.sqrt(total * graph.num_items) if scheme == "paper" else total / (w_users.sum() * w_items.sum())
    same = users[:, None] == items[None, :]
    expected = (same * (matrix - 1.3 * scale * np.outer(w_users, w_items))).sum()
    assert result.objective == pytest.approx(expected, rel=1e-9)
    for volumes_of_side, weights, labels in zip(result.volumes, (w_users, w_items), (users, items), strict=True):
        summed = np.bincount(labels, weights, result.num_clusters)
        assert volumes_of_side == pytest.approx(summed, rel=1e-9)
