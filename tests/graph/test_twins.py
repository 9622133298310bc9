"""Rows of the same neighbors and weights, against a dictionary of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu import BalancedCoclustering, BipartiteGraph
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.graph.twins import first_twins


def slow_twins(adjacency):
    seen, firsts = {}, []
    for row in range(adjacency.num_rows):
        entries = slice(adjacency.offsets[row], adjacency.offsets[row + 1])
        weights = () if adjacency.weights is None else tuple(adjacency.weights[entries])
        firsts.append(seen.setdefault((tuple(adjacency.neighbors[entries]), weights), row))
    return firsts


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4), st.sampled_from([1.0, 2.0])), max_size=40), st.booleans()
)
def test_twins_are_rows_of_the_same_neighbors_and_weights(edges, weighted):
    pairs = {(user, item): weight for user, item, weight in edges}
    users, items = (np.array([pair[k] for pair in pairs], dtype=np.int64) for k in (0, 1))
    weights = np.array(list(pairs.values())) if weighted else None
    graph = BipartiteGraph.from_edges(users, items, weights, num_users=8, num_items=5)
    for adjacency in (graph.csr, graph.csc):
        assert first_twins(adjacency).tolist() == slow_twins(adjacency)


@pytest.mark.parametrize("seed", [0, 1])
def test_users_of_the_same_interactions_take_no_rows_from_others(seed):
    clicks = planted_coclusters(500, 200, 6000, num_clusters=10)[0]
    users = np.concatenate([clicks.users, np.arange(500, 1500)])  # 1,000 more, all of item 0 alone
    items = np.concatenate([clicks.items, np.zeros(1000, np.int64)])
    graph = BipartiteGraph.from_edges(users, items, num_users=1500, num_items=200)
    result = BalancedCoclustering(budget=0.25, random_state=seed).fit(graph).result_
    sizes = result.users.sizes(result.num_clusters)
    assert (sizes[result.users.labels[500:]] == 1).sum() <= 5
    assert len(set(result.users.labels[:500].tolist())) > 200
