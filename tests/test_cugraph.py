"""cuGraph's methods, against a stand-in with the part of its documented interface that is used."""

import importlib.machinery
import sys
import types

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from baco_gpu.baselines.registry import find_method
from baco_gpu.clustering.budget import Budget, TableSize
from baco_gpu.errors import MissingExtraError
from baco_gpu.graph.bipartite import BipartiteGraph

NAMES = ["cugraph-louvain", "cugraph-leiden"]


class Network:
    def __init__(self, directed):
        assert not directed

    def from_cudf_edgelist(self, frame, source, destination, edge_attr):
        self.edges = frame[[source, destination, edge_attr]].to_numpy().T


def partition(network, resolution):
    """The components at a low resolution, every vertex alone at a high one; vertices in another order."""
    first, second, weights = network.edges
    size = int(second.max()) + 1
    matrix = coo_array((weights, (first.astype(int), second.astype(int))), shape=(size, size))
    labels = connected_components(matrix, directed=False)[1] if resolution < 1e3 else np.arange(size)
    order = np.random.default_rng(0).permutation(np.unique(network.edges[:2]).astype(int))
    return pd.DataFrame({"vertex": order, "partition": labels[order]}), 0.5


@pytest.fixture
def seeds(monkeypatch):
    """Installs the stand-in; the seeds that Leiden is given."""
    seen = []
    cugraph, cudf = (types.ModuleType(name) for name in ("cugraph", "cudf"))
    for module in (cugraph, cudf):
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def leiden(graph, resolution, random_state):
        seen.append(random_state)
        return partition(graph, resolution)

    cudf.DataFrame = pd.DataFrame
    cugraph.Graph, cugraph.louvain, cugraph.leiden = Network, partition, leiden
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_cugraph_labels_go_to_the_vertices_that_they_are_of(seeds, name):
    users, items = np.meshgrid(np.arange(40), np.arange(20), indexing="ij")
    within = users % 4 == items % 4
    graph = BipartiteGraph.from_edges(users[within], items[within], num_users=41, num_items=20)
    method = find_method(f"{name}:users")
    method.check_installed()
    found = method.assign(graph, Budget.of(9), TableSize(41, 20, 8), 7)
    assert len(set(found[0].labels[:4])) == 4
    assert np.array_equal(found[0].labels[:40], np.tile(found[0].labels[:4], 10))
    assert np.array_equal(found[0].labels[:4], found[1].labels[:4])
    assert found[0].labels[40] not in found[0].labels[:40]
    assert set(seeds) == (set() if name == "cugraph-louvain" else {7})


def test_without_cugraph_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cugraph", None)
    with pytest.raises(MissingExtraError, match="'cugraph-leiden' needs cugraph: conda install -c rapidsai"):
        find_method("cugraph-leiden").check_installed()
