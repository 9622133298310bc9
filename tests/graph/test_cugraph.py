"""Graphs of cuGraph, and its methods: against stand-ins with the signatures of pylibcugraph and cugraph 26.10."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from baco_gpu.budget import Budget, TableSize
from baco_gpu.errors import BackendUnavailableError, InputError, MissingExtraError
from baco_gpu.graph.arrays import cuda_obstacle
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.registry import find_method
from graphs import bipartite_graphs, random_graph

NAMES = ["cugraph-louvain", "cugraph-leiden"]


class ResourceHandle:
    def __init__(self, handle=None):
        pass


class GraphProperties:
    def __init__(self, is_symmetric=False, is_multigraph=False):
        self.is_symmetric, self.is_multigraph = is_symmetric, is_multigraph


class SGGraph:
    """Keeps the directed edges of what it is given, in another order, as the library's own renumbering leaves them."""

    def __init__(
        self,
        resource_handle,
        graph_properties,
        src_or_offset_array,
        dst_or_index_array,
        weight_array=None,
        store_transposed=False,
        renumber=False,
        do_expensive_check=False,
        edge_id_array=None,
        edge_type_array=None,
        edge_start_time_array=None,
        edge_end_time_array=None,
        input_array_format="COO",
        vertices_array=None,
        drop_self_loops=False,
        drop_multi_edges=False,
        symmetrize=False,
    ):
        assert isinstance(resource_handle, ResourceHandle)
        assert isinstance(graph_properties, GraphProperties)
        assert src_or_offset_array.dtype == dst_or_index_array.dtype == vertices_array.dtype
        assert graph_properties.is_symmetric == symmetrize
        assert input_array_format == "COO"
        sources, destinations, weights = src_or_offset_array, dst_or_index_array, weight_array
        if symmetrize:
            sources, destinations = np.append(sources, destinations), np.append(destinations, sources)
            weights = np.append(weights, weights)
        assert np.isin(np.append(sources, destinations), vertices_array).all()
        order = np.random.default_rng(1).permutation(len(sources))
        self.edges = sources[order], destinations[order], None if weights is None else weights[order]
        self.vertices = vertices_array


def decompress_to_edgelist(resource_handle, graph, do_expensive_check):
    assert isinstance(resource_handle, ResourceHandle)
    return (*graph.edges, None, None)


def clusters_of(graph, resolution):
    """The components at a low resolution, every vertex alone at a high one; vertices in another order."""
    sources, destinations, weights = graph.edges
    size = len(graph.vertices)
    matrix = coo_array((weights, (sources, destinations)), shape=(size, size))
    labels = connected_components(matrix, directed=False)[1] if resolution < 1e3 else np.arange(size)
    order = np.random.default_rng(0).permutation(graph.vertices)
    return order, labels[order], 0.5


def louvain(resource_handle, graph, max_level, threshold, resolution, do_expensive_check):
    assert (max_level, threshold, do_expensive_check) == (100, 1e-7, False)
    return clusters_of(graph, resolution)


class Network:
    """cugraph.Graph."""

    def __init__(self, m_graph=None, directed=False):
        self.directed = directed

    def from_cudf_edgelist(
        self,
        input_df,
        source="source",
        destination="destination",
        edge_attr=None,
        weight=None,
        edge_id=None,
        edge_type=None,
        renumber=True,
        store_transposed=False,
        symmetrize=None,
        vertices=None,
    ):
        assert isinstance(vertices, pd.Series)
        columns = [None if name is None else input_df[name].to_numpy() for name in (source, destination, edge_attr)]
        graph = SGGraph(
            ResourceHandle(),
            GraphProperties(is_symmetric=not self.directed),
            *columns,
            vertices_array=vertices.to_numpy(),
            symmetrize=not self.directed,
        )
        # What it stands on; the library has this method only once there are edges.
        self.decompress_to_edgelist = lambda: frame_of(*graph.edges)


def frame_of(sources, destinations, weights=None):
    columns = {"src": sources, "dst": destinations, "weight": weights}
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def stored(sources, destinations, weights=None):
    """A graph of cuGraph with these directed edges."""
    network = Network(directed=True)
    network.decompress_to_edgelist = lambda: frame_of(
        np.array(sources, np.int64), np.array(destinations, np.int64), None if weights is None else np.array(weights)
    )
    return network


@pytest.fixture(scope="class")
def library():
    """Installs the stand-ins, and a CuPy whose arrays are NumPy's; the seeds that Leiden is given."""
    seeds = []

    def leiden(resource_handle, random_state, graph, max_level, resolution, theta, do_expensive_check):
        assert (max_level, theta, do_expensive_check) == (100, 1.0, False)
        seeds.append(random_state)
        return clusters_of(graph, resolution)

    names = ("pylibcugraph", "cugraph", "cudf", "cupy")
    pylibcugraph, cugraph, cudf, cupy = modules = [types.ModuleType(name) for name in names]
    pylibcugraph.__dict__.update(
        ResourceHandle=ResourceHandle,
        GraphProperties=GraphProperties,
        SGGraph=SGGraph,
        decompress_to_edgelist=decompress_to_edgelist,
        louvain=louvain,
        leiden=leiden,
    )
    cugraph.Graph = Network
    cudf.DataFrame, cudf.Series = pd.DataFrame, pd.Series
    cupy.asarray = np.asarray
    cupy.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=lambda: 1))
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
            patch.setitem(sys.modules, module.__name__, module)
        yield seeds


TO = pytest.mark.parametrize("to", ["to_cugraph", "to_pylibcugraph"])


@pytest.mark.usefixtures("library")
class TestConversion:
    @TO
    @given(graph=bipartite_graphs())
    def test_there_and_back_is_the_same_graph(self, to, graph):
        network = getattr(graph, to)()
        same = BipartiteGraph.from_cugraph(network, graph.num_users, graph.num_items)
        assert same.checksum() == graph.checksum()
        assert same.csr.weights is None or graph.csr.weights is not None

    @TO
    def test_vertices_are_users_then_items(self, to):
        graph = BipartiteGraph.from_edges([0, 2, 2], [1, 0, 1], [2.0, 3.0, 0.5], num_users=3, num_items=4)
        network = getattr(graph, to)()
        edges = network.edges if to == "to_pylibcugraph" else network.decompress_to_edgelist().to_numpy().T
        sources, destinations, weights = (part.tolist() for part in edges)
        assert sorted(zip(sources, destinations, weights, strict=True)) == [
            *[(0, 4, 2.0), (2, 3, 3.0), (2, 4, 0.5)],
            *[(3, 2, 3.0), (4, 0, 2.0), (4, 2, 0.5)],
        ]
        if to == "to_pylibcugraph":
            assert network.vertices.tolist() == list(range(7))  # those without an edge too

    def test_weights_are_as_narrow_as_they_may_be(self):
        def dtype(weights):
            graph = BipartiteGraph.from_edges([0, 1], [1, 0], weights)
            network = graph.to_pylibcugraph(ResourceHandle())
            same = BipartiteGraph.from_cugraph(network, 2, resource_handle=ResourceHandle())
            assert same.checksum() == graph.checksum()
            return network.edges[2].dtype

        assert dtype(None) == dtype([3, 0.25]) == np.float32
        assert dtype([3, 0.1]) == dtype([3, 1e300]) == dtype([3, 2**25 + 1]) == np.float64

    def test_items_are_as_many_as_the_largest_vertex_asks_for(self):
        graph = BipartiteGraph.from_cugraph(stored([0, 5], [4, 1]), 3)
        assert (graph.num_users, graph.num_items) == (3, 3)
        assert graph.to_scipy().toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
        assert BipartiteGraph.from_cugraph(stored([], []), 2).num_items == 0

    def test_every_edge_counts_once_whichever_way_it_is_stored(self):
        expected = BipartiteGraph.from_edges([0, 0, 1], [0, 1, 1], [2.0, 3.0, 5.0])
        for sources, destinations, weights in (
            ([0, 0, 1], [2, 3, 3], [2, 3, 5]),
            ([2, 3, 3], [0, 0, 1], [2, 3, 5]),
            ([0, 3, 1], [2, 0, 3], [2, 3, 5]),
            ([0, 0, 3, 1, 3], [2, 3, 0, 3, 1], [2, 3, 3, 5, 5]),
            ([0, 0, 3, 0], [2, 3, 1, 3], [2, 1, 5, 2]),  # a repeated one its sum
        ):
            graph = BipartiteGraph.from_cugraph(stored(sources, destinations, weights), 2, 2)
            assert graph.checksum() == expected.checksum()

    @pytest.mark.parametrize(
        ("edges", "message"),
        [
            (([0, 1], [3, 2]), r"below num_users = 3, with items, got an edge between 1 and 2$"),
            (([0, 3], [3, 4]), r"below num_users = 3, with items, got an edge between 3 and 4$"),
            (([0, 1], [3, 1]), r"got an edge between 1 and 1$"),
            (([0, 1], [3, 9]), r"vertices below num_users \+ num_items = 5, got 9$"),
            (([0, 3], [3, 0], [1, 2]), r"both directions of an edge alike, got 1 from user 0 to item 0 and 2 back$"),
            (([0, 1], [3, 4], [1, np.nan]), r"weights of network must be finite and non-negative, got nan"),
            (([0, -1], [3, 4]), r"vertices of network must be non-negative ids, got -1"),
        ],
    )
    def test_graphs_that_are_not_of_users_and_items_are_refused(self, edges, message):
        with pytest.raises(InputError, match=message):
            BipartiteGraph.from_cugraph(stored(*edges), 3, 2)

    @pytest.mark.parametrize("sizes", [(-1, None), (2, -3), (2.5, None)])
    def test_sizes_are_checked(self, sizes):
        with pytest.raises(InputError, match=r"num_(users|items) must be"):
            BipartiteGraph.from_cugraph(stored([0], [2]), *sizes)

    def test_vertices_with_names_are_refused(self):
        network = Network()
        network.decompress_to_edgelist = lambda: pd.DataFrame({"0_src": [0], "1_src": [1], "0_dst": [2], "1_dst": [3]})
        with pytest.raises(InputError, match="integer vertices, got several columns"):
            BipartiteGraph.from_cugraph(network, 2)
        network.decompress_to_edgelist = lambda: frame_of(np.array(["ann"]), np.array(["book"]))
        with pytest.raises(InputError, match="vertices of network must be integer ids"):
            BipartiteGraph.from_cugraph(network, 2)

    @pytest.mark.parametrize("other", [Network(), [1, 2], None])
    def test_what_is_no_graph_of_theirs_is_refused(self, other):
        with pytest.raises(InputError, match=r"^network must be a cugraph.Graph with edges or a pylibcugraph.SGGraph"):
            BipartiteGraph.from_cugraph(other, 2)


@pytest.mark.parametrize("name", NAMES)
def test_cugraph_labels_go_to_the_vertices_that_they_are_of(library, name):
    library.clear()
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
    assert set(library) == (set() if name == "cugraph-louvain" else {7})


class TestMissing:
    @pytest.fixture(autouse=True)
    def _nothing_installed(self, monkeypatch):
        for name in ("pylibcugraph", "cugraph", "cudf"):
            monkeypatch.setitem(sys.modules, name, None)

    def test_methods_say_what_to_install(self):
        remedy = r"'cugraph-leiden' needs pylibcugraph: pip install 'baco_gpu\[cugraph13\]'"
        with pytest.raises(MissingExtraError, match=remedy):
            find_method("cugraph-leiden").check_installed()

    def test_conversions_say_what_to_install(self):
        graph = random_graph(5, 4, 9, seed=0)
        with pytest.raises(MissingExtraError, match="to_cugraph needs cugraph: pip install cugraph-cu13"):
            graph.to_cugraph()
        for convert in (graph.to_pylibcugraph, lambda: BipartiteGraph.from_cugraph(object(), 2)):
            with pytest.raises(
                MissingExtraError, match=r"cugraph needs pylibcugraph: pip install 'baco_gpu\[cugraph13"
            ):
                convert()


@pytest.mark.skipif(cuda_obstacle() is None, reason="there is a device")
def test_without_a_device_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibcugraph", types.ModuleType("pylibcugraph"))
    with pytest.raises(BackendUnavailableError, match="arrays on a GPU need"):
        random_graph(5, 4, 9, seed=0).to_pylibcugraph()


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device")
class TestOnADevice:
    @TO
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_there_and_back_is_the_same_graph(self, to, weighted, device):
        needed = to.removeprefix("to_")
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
        graph = random_graph(300, 200, 4000, seed=2, weighted=weighted)
        same = BipartiteGraph.from_cugraph(getattr(graph.to(device), to)(), graph.num_users, graph.num_items)
        assert same.checksum() == graph.checksum()

    @pytest.mark.parametrize("name", NAMES)
    def test_methods_meet_a_budget(self, name):
        method = find_method(name)
        if not method.installed:
            pytest.skip("needs pylibcugraph")
        graph = random_graph(300, 200, 4000, seed=2)
        users, items = method.assign(graph, Budget.of(100), TableSize(300, 200, 8), 0)
        assert users.rows + items.rows <= 100
