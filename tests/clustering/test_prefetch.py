"""Asking memory ahead: it is compiled into the loops, and changes no value."""

from __future__ import annotations

import numpy as np
import pytest
from numba import TypingError, njit

from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.backends.cpu_kernels import _FAR, _HEAD, _NEAR
from baco_gpu.clustering.solve.merging import merge_to
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.prefetch import prefetch
from graphs import random_graph

pytestmark = pytest.mark.heavy("solves many graphs")


@njit
def picked(values, places, weights):
    total = 0
    for k in range(len(places)):
        prefetch(values, places[k] + len(values))  # beyond the end, too
        prefetch(values, places[k])
        prefetch(weights, places[k])
        total += values[places[k]]
    return total


@pytest.mark.parametrize("values_dtype", [np.int32, np.int64, np.float64])
@pytest.mark.parametrize("places_dtype", [np.int32, np.uint64])
def test_values_are_what_they_were(values_dtype, places_dtype):
    values = np.arange(1000, dtype=values_dtype)
    places = np.arange(0, 1000, 7, dtype=places_dtype)
    for weights in (None, values, values[:0], values[::2]):
        assert picked(values, places, weights) == values[::7].sum()
    assert (values == np.arange(1000)).all()


def test_it_is_an_instruction():
    picked(np.arange(4), np.arange(4), None)
    assert all("llvm.prefetch" in code for code in picked.inspect_llvm().values())


@pytest.mark.parametrize("array", [np.zeros((2, 2)), (1, 2), 3.0])
def test_anything_else_is_no_array(array):
    with pytest.raises(TypingError):
        njit(lambda array: prefetch(array, 0))(array)


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_the_same_where_there_are_enough_nodes_to_ask_ahead_for_labels_and_volumes(weighted):
    """Nodes without an edge weigh nothing: however many there are, the others are clustered as without them."""
    small = random_graph(300, 40, 6000, seed=0, weighted=weighted)
    assert small.user_degrees.all()
    assert small.item_degrees.all()
    assert small.item_degrees.max() > _HEAD
    padded = BipartiteGraph.from_edges(
        np.repeat(np.arange(small.num_users), small.user_degrees),
        small.csr.neighbors,
        small.csr.weights,
        num_users=small.num_users + max(_NEAR, _FAR // 2),
        num_items=small.num_items + max(_NEAR, _FAR // 2),
    )
    # The nodes without an edge share a row on each side.
    assert solved(padded, small, 62) == solved(small, small, 60)


def solved(graph, small, rows):
    """The clusters of the nodes of `small`, numbered in their order, after sweeps and merging."""
    backend, weights = CpuBackend(), integer_weights(graph)
    problem, penalty = backend.load(graph, weights), 2.0 * weights.penalty_per_gamma
    partition = singletons(backend, problem)
    stages = []
    for number, hold_rows in enumerate([False, False, True]):
        if hold_rows:
            partition = merge_to(backend, problem, partition, penalty, rows)
        sweep(backend, problem, partition, penalty, seed=4, number=number, hold_rows=hold_rows)
        users, items = partition.labels
        labels = np.concatenate([users[: small.num_users], items[: small.num_items]])
        stages.append(np.unique(labels, return_inverse=True)[1].tolist())
    return stages
