"""The graph against a plain-Python reference: rows, columns, duplicates, checksums, every kind of input."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import BackendUnavailableError, InputError
from baco_gpu.graph import arrays
from baco_gpu.graph.arrays import Adjacency, cuda_obstacle
from baco_gpu.graph.bipartite import BipartiteGraph, as_graph
from tiers import examples

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 3)), max_size=40)
FAST = examples(100)


def reference(edges: list[tuple[int, int, int]], duplicates: str) -> dict[tuple[int, int], float]:
    """The weight of every pair, in plain Python."""
    weights: dict[tuple[int, int], float] = {}
    for user, item, weight in edges:
        if weight == 0 or (duplicates == "drop" and (user, item) in weights):
            continue
        weights[user, item] = weights.get((user, item), 0) + weight
    return weights


def entries(adjacency: Adjacency) -> list[tuple[int, int, float]]:
    """(row, neighbor, weight) of every entry, in the order of the arrays."""
    weights = np.ones(len(adjacency.neighbors)) if adjacency.weights is None else adjacency.weights
    rows = np.repeat(np.arange(adjacency.num_rows), adjacency.degrees)
    return list(zip(rows.tolist(), adjacency.neighbors.tolist(), weights.tolist(), strict=True))


def columns(edges: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(edges, dtype=np.int64).reshape(-1, 3).T)


@FAST
@given(EDGES, st.sampled_from(["sum", "drop"]))
def test_rows_and_columns_match_the_reference(edges: list[tuple[int, int, int]], duplicates: Any) -> None:
    users, items, weights = columns(edges)
    graph = BipartiteGraph.from_edges(users, items, weights, num_users=8, num_items=9, duplicates=duplicates)
    expected = reference(edges, duplicates)
    assert entries(graph.csr) == sorted((user, item, weight) for (user, item), weight in expected.items())
    assert entries(graph.csc) == sorted((item, user, weight) for (user, item), weight in expected.items())
    assert (graph.num_users, graph.num_items, graph.num_edges) == (8, 9, len(expected))
    for adjacency in (graph.csr, graph.csc):
        assert adjacency.offsets.dtype == np.int64
        assert adjacency.neighbors.dtype == np.int32
        assert adjacency.offsets[0] == 0
    assert graph.user_degrees.tolist() == [sum(pair[0] == user for pair in expected) for user in range(8)]
    assert graph.item_degrees.tolist() == [sum(pair[1] == item for pair in expected) for item in range(9)]
    assert graph.user_degrees.dtype == np.int64


@FAST
@given(EDGES)
def test_without_weights_a_repeated_pair_counts_as_often_as_it_came(edges: list[tuple[int, int, int]]) -> None:
    users, items, _ = columns(edges)
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    graph = BipartiteGraph.from_edges(users, items)
    assert entries(graph.csr) == sorted((*pair, pairs.count(pair)) for pair in set(pairs))
    assert (graph.csr.weights is None) == (len(pairs) == len(set(pairs)))
    dropped = BipartiteGraph.from_edges(users, items, duplicates="drop")
    assert dropped.csr.weights is None
    assert dropped.num_edges == graph.num_edges


@FAST
@given(EDGES, st.randoms(use_true_random=False), st.sampled_from([np.int64, np.int32, np.uint8]))
def test_the_checksum_sees_the_edges_alone(edges: list[tuple[int, int, int]], random: Any, dtype: Any) -> None:
    shuffled = random.sample(edges, len(edges))
    graph, same = (
        BipartiteGraph.from_edges(users.astype(dtype), items, weights, num_users=7, num_items=9)
        for users, items, weights in (columns(edges), columns(shuffled))
    )
    wide = BipartiteGraph(
        *(Adjacency(a.offsets, a.neighbors.astype(np.int64), a.weights) for a in (same.csr, same.csc))
    )
    assert graph.checksum() == same.checksum() == wide.checksum()
    assert graph.checksum() == graph.transpose().transpose().checksum()
    taller = BipartiteGraph.from_edges(*columns(edges), num_users=8, num_items=9)
    assert taller.checksum() != graph.checksum()


def test_checksums_tell_weights_apart_but_not_unit_weights_from_none() -> None:
    plain = BipartiteGraph.from_edges([0, 1], [1, 0])
    assert plain.checksum() == BipartiteGraph.from_edges([0, 1], [1, 0], [1, 1]).checksum()
    assert plain.checksum() != BipartiteGraph.from_edges([0, 1], [1, 0], [1, 2]).checksum()
    stream = struct.pack("<3q", 2, 2, 2) + struct.pack("<3q", 0, 1, 2) + struct.pack("<2q", 1, 0)
    assert plain.checksum() == hashlib.sha256(stream).hexdigest()


def test_long_arrays_are_hashed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = BipartiteGraph.from_edges(np.arange(50), np.arange(50), np.arange(1, 51))
    whole = graph.checksum()
    monkeypatch.setattr("baco_gpu.graph.arrays._CHUNK", 7)
    assert graph.transpose().transpose().checksum() == whole


def test_sorted_edges_are_copied_and_the_graph_is_read_only() -> None:
    users, items, weights = np.array([0, 1], dtype=np.int32), np.array([1, 0], dtype=np.int32), np.array([1.0, 2.0])
    graph = BipartiteGraph.from_edges(users, items, weights)
    items[0], weights[0] = 0, 9.0
    assert entries(graph.csr) == [(0, 1, 1.0), (1, 0, 2.0)]
    for adjacency in (graph.csr, graph.csc):
        for array in (adjacency.offsets, adjacency.neighbors, adjacency.weights):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    with pytest.raises(AttributeError):
        graph.csr = graph.csc  # type: ignore[misc]


def test_empty_and_one_sided_graphs_are_graphs() -> None:
    empty = BipartiteGraph.from_edges([], [])
    assert (empty.num_users, empty.num_items, empty.num_edges) == (0, 0, 0)
    assert empty.checksum() == BipartiteGraph.from_scipy(scipy.sparse.csr_array((0, 0))).checksum()
    one_sided = BipartiteGraph.from_edges([], [], num_users=3, num_items=0)
    assert one_sided.user_degrees.tolist() == [0, 0, 0]
    assert one_sided.to_scipy().shape == (3, 0)
    lonely = BipartiteGraph.from_edges([1], [2], num_users=4, num_items=5)
    assert lonely.user_degrees.tolist() == [0, 1, 0, 0]
    assert lonely.item_degrees.tolist() == [0, 0, 1, 0, 0]
    assert BipartiteGraph.from_edges([0], [0], [0.0]).num_edges == 0


class DeviceInterface:
    """Something that is only an array through `__array_interface__`."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class OnlyDLPack:
    """Something that is only an array through DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        list,
        torch.as_tensor,
        OnlyDLPack,
        DeviceInterface,
        lambda array: array.astype(np.uint16),
        lambda array: np.repeat(array, 2)[::2],
        lambda array: memoryview(array.astype(np.int64)),
        lambda array: torch.as_tensor(array).to(torch.int32),
    ],
)
def test_arrays_of_every_library_make_the_same_graph(wrap: Any) -> None:
    users, items = np.array([2, 0, 1, 2]), np.array([1, 1, 0, 0])
    graph = BipartiteGraph.from_edges(wrap(users), wrap(items))
    assert graph.checksum() == BipartiteGraph.from_edges(users, items).checksum()


def test_weights_may_be_a_tensor_with_a_gradient() -> None:
    graph = BipartiteGraph.from_edges([0, 0], [1, 0], torch.tensor([0.5, 2.0], requires_grad=True))
    assert entries(graph.csr) == [(0, 0, 2.0), (0, 1, 0.5)]


@FAST
@given(EDGES, st.sampled_from(["coo", "csr", "csc", "lil", "dok"]), st.booleans())
def test_scipy_matrices_come_and_go(edges: list[tuple[int, int, int]], kind: str, modern: bool) -> None:
    dense = np.zeros((7, 9))
    for user, item, weight in edges:
        dense[user, item] += weight
    make = scipy.sparse.coo_array if modern else scipy.sparse.coo_matrix
    graph = BipartiteGraph.from_scipy(make(dense).asformat(kind))
    back = graph.to_scipy()
    assert back.has_canonical_format
    assert back.dtype == np.float64
    assert back.toarray().tolist() == dense.tolist()
    assert (graph.csr.weights is None) == bool((dense[dense > 0] == 1).all())
    assert graph.checksum() == BipartiteGraph.from_dense(dense).checksum()
    if kind == "coo":
        users, items, weights = columns(edges)
        raw = make((weights, (users, items)), shape=(7, 9))
        assert BipartiteGraph.from_scipy(raw).checksum() == graph.checksum()


def test_as_graph_takes_whatever_stands_for_a_graph(tmp_path: Path) -> None:
    graph = BipartiteGraph.from_edges([0, 1, 1], [2, 0, 2])
    assert as_graph(graph) is graph
    interactions = Interactions(np.array([1, 0, 1]), np.array([2, 2, 0]), 2, 3)
    (tmp_path / "x.csv").write_text("0,2\n1,2\n1,0\n0,1\n")
    for source in (
        interactions,
        graph.to_scipy(),
        scipy.sparse.coo_matrix(graph.to_scipy()),
        ([0, 1, 1], [2, 0, 2]),
        graph.to_scipy().toarray(),
        torch.as_tensor(graph.to_scipy().toarray()),
    ):
        assert as_graph(source).checksum() == graph.checksum()
    from_file = as_graph(str(tmp_path / "x.csv"))
    assert from_file.num_edges == as_graph(tmp_path / "x.csv").num_edges == 4
    assert from_file.item_vocabulary == Vocabulary([0, 1, 2])
    for wrong in (None, [1, 2], ([0], [0], [0]), np.arange(3), 7):
        with pytest.raises(InputError, match="a graph must be a BipartiteGraph"):
            as_graph(wrong)


def test_vocabularies_give_the_sizes_and_change_places() -> None:
    users, items = Vocabulary(["a", "b", "c"]), Vocabulary([10, 20])
    graph = BipartiteGraph.from_edges([0], [1], user_vocabulary=users, item_vocabulary=items)
    assert (graph.num_users, graph.num_items) == (3, 2)
    turned = graph.transpose()
    assert (turned.num_users, turned.num_items) == (2, 3)
    assert turned.user_vocabulary is items
    assert turned.item_vocabulary is users
    assert entries(turned.csr) == entries(graph.csc)
    with pytest.raises(InputError, match="num_users must equal the 3 ids of the vocabulary, got 4"):
        BipartiteGraph.from_edges([0], [1], num_users=4, user_vocabulary=users)


def test_files_become_graphs_with_progress(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a1\tb1\nc1\td1\nc1\td1\n")
    seen: list[str] = []
    graph = BipartiteGraph.from_file(tmp_path / "x.tsv", progress=lambda phase, done, total, note: seen.append(phase))
    assert graph.num_edges == 2
    assert entries(graph.csr)[1] == (1, 1, 1.0)
    assert seen[-1] == "build graph"
    assert entries(BipartiteGraph.from_file(tmp_path / "x.tsv", duplicates="sum").csr)[1] == (1, 1, 2.0)
    assert entries(BipartiteGraph.from_file(tmp_path / "x.tsv", weighting="counts").csr)[1] == (1, 1, 2.0)
    with pytest.raises(InputError, match="edges must be distinct"):
        BipartiteGraph.from_file(tmp_path / "x.tsv", duplicates="refuse")


def test_refused_duplicates_are_named() -> None:
    with pytest.raises(InputError, match="edges must be distinct, got user 3 with item 1 more than once"):
        BipartiteGraph.from_edges([3, 0, 3, 0], [1, 0, 1, 1], duplicates="refuse")
    assert BipartiteGraph.from_edges([3, 0], [1, 0], duplicates="refuse").num_edges == 2


def test_ids_are_64_bit_where_32_do_not_suffice() -> None:
    """Such a graph would take 17 GB of offsets: the choice is tested at the point where it is made."""
    from baco_gpu.graph.building import id_dtype

    assert id_dtype(2**31 - 2, 1) == np.int32
    assert id_dtype(2**31 - 1, 1) == np.int64


def test_sizes_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(InputError, match=r"users must be contiguous ids .* got 4000000000000000000 as"):
        BipartiteGraph.from_edges([4 * 10**18], [0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([-1, 0], [0, 0]), "users must be non-negative ids, got -1 at position 0"),
        (([0, 1], [0, -5]), "items must be non-negative ids, got -5 at position 1"),
        (([0.5, 1], [0, 0]), "users must be integer ids, got 0.5 at position 0"),
        (([0.0, 1], [0, 0]), "users must be integer ids, got float64"),
        (([float("nan")], [0]), "users must be integer ids, got nan at position 0"),
        (([True], [0]), "users must be integer ids, got dtype bool"),
        (([1j], [0]), "users must be integer ids, got dtype complex128"),
        ((np.array([0], dtype=object), [0]), "users must be integer ids, got dtype object"),
        ((["a"], [0]), "users must be integer ids, got dtype <U1"),
        (([[0]], [0]), r"users must be one-dimensional, got shape \(1, 1\)"),
        ((0, [0]), r"users must be one-dimensional, got shape \(\)"),
        (([[0], [1, 2]], [0]), "users must be an array, got list"),
        (([0, 1], [0]), "users and items must have the same length, got 2 and 1"),
        (([0], [0], [1, 2]), r"weights must have one value for each of the 1 edges, got shape \(2,\)"),
        (([0, 0], [0, 1], [1, -1]), "weights must be finite and non-negative, got -1.0 at position 1"),
        (([0, 0], [0, 1], [1, float("nan")]), "weights must be finite and non-negative, got nan at position 1"),
        (([0], [0], [float("inf")]), "weights must be finite and non-negative, got inf at position 0"),
        (([0], [0], [1j]), "weights must be numbers, got dtype complex128"),
        (([0], [0], ["a"]), "weights must be numbers, got dtype <U1"),
        (([0, 0], [0, 0], [1.7e308, 1.7e308]), "weights of repeated edges must have a finite sum, got inf"),
    ],
)
def test_wrong_edges_are_explained(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        BipartiteGraph.from_edges(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_users": 2}, "users must be below num_users = 2, got 2 at position 1"),
        ({"num_items": 1}, "items must be below num_items = 1, got 1 at position 0"),
        ({"num_users": -1}, "num_users must be an integer at least 0, got -1"),
        ({"num_users": 3.0}, "num_users must be an integer"),
        ({"duplicates": "max"}, "duplicates must be one of 'sum', 'drop', 'refuse', got 'max'"),
    ],
)
def test_wrong_options_are_explained(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BipartiteGraph.from_edges([0, 2], [1, 0], **options)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), "SciPy sparse matrix, got ndarray"),
        (scipy.sparse.coo_array(np.ones(3)), "two-dimensional SciPy sparse matrix"),
        (scipy.sparse.csr_array(np.array([[-1.0]])), "weights must be finite and non-negative"),
        (scipy.sparse.csr_array(np.array([[1j]])), "weights must be numbers, got dtype complex128"),
    ],
)
def test_wrong_matrices_are_explained(matrix: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BipartiteGraph.from_scipy(matrix)


@pytest.mark.parametrize(("matrix", "message"), [(np.arange(3), "shape"), (np.array([["a"]]), "dtype <U1")])
def test_wrong_dense_arrays_are_explained(matrix: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BipartiteGraph.from_dense(matrix)


def test_sizes_in_bytes_and_words() -> None:
    graph = BipartiteGraph.from_edges([0, 1], [1, 0])
    assert graph.nbytes == 2 * (3 * 8 + 2 * 4)
    weighted = BipartiteGraph.from_edges([0, 1], [1, 0], [1, 2])
    assert weighted.nbytes == graph.nbytes + 2 * 2 * 8
    assert graph.device == "cpu"
    assert repr(graph) == "BipartiteGraph(2 users, 2 items, 2 edges, cpu)"
    assert repr(weighted) == "BipartiteGraph(2 users, 2 items, 2 edges, weighted, cpu)"


def test_without_cupy_a_device_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    graph = BipartiteGraph.from_edges([0], [0])
    assert graph.to("cpu") is graph
    with pytest.raises(BackendUnavailableError, match=r"CuPy and a CUDA device: .*pip install \'baco_gpu\[cuda13\]"):
        graph.to("cuda")
    with pytest.raises(InputError, match="device must be one of 'cpu', 'cuda', got 'tpu'"):
        graph.to("tpu")

    class OnDevice:
        def __dlpack__(self) -> None: ...

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(BackendUnavailableError, match="CuPy"):
        arrays.as_numpy("users", OnDevice())


class Elsewhere:
    """An array in a memory that NumPy cannot see, as CuPy's is."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy()

    def __len__(self) -> int:
        return len(self.array)

    def get(self) -> np.ndarray:
        return self.array


def stand_in_for_cupy(devices: int) -> SimpleNamespace:
    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: devices)),
        asarray=lambda source: Elsewhere(getattr(source, "array", source)),
        asnumpy=lambda source: source.array.copy(),
        from_dlpack=lambda source: Elsewhere(source.array),
    )


def test_every_array_moves_to_a_device_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", stand_in_for_cupy(devices=1))
    vocabulary = Vocabulary(["a", "b", "c"])
    graph = BipartiteGraph.from_edges([0, 2, 2], [1, 0, 1], [1, 2, 3], user_vocabulary=vocabulary)
    there = graph.to("cuda")
    assert there.device == "cuda"
    assert there.to("cuda") is there
    assert there.user_vocabulary is vocabulary
    assert (there.num_users, there.num_items, there.num_edges) == (3, 2, 3)
    assert all(isinstance(a, Elsewhere) for side in (there.csr, there.csc) for a in (side.offsets, side.weights))
    assert there.checksum() == graph.checksum()
    back = there.to("cpu")
    assert entries(back.csr) == entries(graph.csr)
    assert not back.csc.neighbors.flags.writeable


def test_arrays_of_a_device_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", stand_in_for_cupy(devices=1))

    class WithDLPack(Elsewhere):
        def __dlpack__(self) -> None: ...

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    class WithInterface(Elsewhere):
        __cuda_array_interface__: Any = {}  # noqa: RUF012

    for kind in (WithDLPack, WithInterface):
        assert arrays.as_numpy("users", kind(np.array([3, 1]))).tolist() == [3, 1]


def test_a_machine_without_a_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", stand_in_for_cupy(devices=0))
    with pytest.raises(BackendUnavailableError, match="need CuPy and a CUDA device: CuPy finds no CUDA device"):
        BipartiteGraph.from_edges([0], [0]).to("cuda")


def test_importing_the_graph_loads_no_compiler_and_no_framework() -> None:
    code = (
        "import sys, baco_gpu.graph.bipartite as b; "
        "print([name for name in ('numba', 'torch', 'cupy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device for CuPy")
def test_a_graph_travels_to_the_device_and_back() -> None:
    cupy = pytest.importorskip("cupy")
    graph = BipartiteGraph.from_edges([0, 2, 2], [1, 0, 1], [1, 2, 3])
    there = graph.to("cuda")
    assert there.device == "cuda"
    assert isinstance(there.csr.neighbors, cupy.ndarray)
    assert there.user_degrees.get().tolist() == [1, 0, 2]
    assert there.checksum() == graph.checksum()
    assert there.to_scipy().toarray().tolist() == graph.to_scipy().toarray().tolist()
    back = there.to("cpu")
    assert entries(back.csc) == entries(graph.csc)
    edges = cupy.array([0, 2, 2]), cupy.array([1, 0, 1])
    on_torch = torch.tensor([0, 2, 2], device="cuda"), torch.tensor([1, 0, 1], device="cuda")
    for users, items in (edges, on_torch):
        assert entries(BipartiteGraph.from_edges(users, items).csr) == [(0, 1, 1.0), (2, 0, 1.0), (2, 1, 1.0)]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "edges"), [("beauty", 158_801), ("gowalla", 821_896)])
def test_published_sets_make_graphs(name: str, edges: int) -> None:
    folder = os.environ.get("BACO_DATA")
    if not folder:
        pytest.skip("BACO_DATA names no folder of interaction sets")
    graph = BipartiteGraph.from_file(Path(folder, f"{name}.npz"), duplicates="refuse")
    assert graph.num_edges == edges
    assert graph.csr.weights is None
    assert (graph.transpose().to_scipy() != graph.to_scipy().T).nnz == 0
