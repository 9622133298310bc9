"""Which co-clusters a node is near to: against the plain rule, node by node."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering import affinity
from baco_gpu.clustering.affinity import nearby_coclusters
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph


def dealt_by_hand(adjacency, labels, slots):
    """The slots of every node: one after the other to the label of the greatest quotient."""
    filled = []
    for node in range(len(adjacency.offsets) - 1):
        edges = {}
        for place in range(adjacency.offsets[node], adjacency.offsets[node + 1]):
            label = labels[adjacency.neighbors[place]]
            weight = 1.0 if adjacency.weights is None else float(adjacency.weights[place])
            edges[label] = edges.get(label, 0.0) + weight
        nearest = sorted(edges, key=lambda label: (-edges[label], label))[:slots]
        seats = [0] * len(nearest)
        row = []
        for _ in range(slots if nearest else 0):
            winner = max(range(len(nearest)), key=lambda k: (edges[nearest[k]] / (seats[k] + 1), -k))
            seats[winner] += 1
            row.append(int(nearest[winner]))
        filled.append(row or [-1] * slots)
    return filled


@given(bipartite_graphs(), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_slots_are_dealt_out_by_the_greatest_quotients(graph, slots, kinds, seed):
    labels = np.random.default_rng(seed).integers(0, kinds, graph.num_items)
    found = nearby_coclusters(graph.csr, labels, kinds, slots)
    assert found.dtype == np.int64
    assert found.tolist() == dealt_by_hand(graph.csr, labels, slots)


@pytest.mark.parametrize("weighted", [False, True])
def test_nodes_are_dealt_with_in_any_pieces(monkeypatch, weighted):
    graph = random_graph(70, 50, 600, seed=4, weighted=weighted)
    labels = np.arange(50) % 9
    whole = nearby_coclusters(graph.csr, labels, 9, 4)
    monkeypatch.setattr(affinity, "_NODES", 7)
    assert nearby_coclusters(graph.csr, labels, 9, 4).tolist() == whole.tolist()
    assert whole.tolist() == dealt_by_hand(graph.csr, labels, 4)


def test_a_node_of_few_coclusters_has_each_several_times():
    graph = BipartiteGraph.from_edges([0, 0, 0, 0, 1], [0, 1, 2, 3, 3], num_users=3)
    slots = nearby_coclusters(graph.csr, np.array([7, 7, 7, 2]), 8, 4)
    assert slots.tolist() == [[7, 7, 7, 2], [2, 2, 2, 2], [-1, -1, -1, -1]]


def test_there_is_a_slot_at_least():
    graph = random_graph(3, 3, 4, seed=0)
    with pytest.raises(InputError, match="slots must be"):
        nearby_coclusters(graph.csr, np.zeros(3, int), 1, 0)
