"""Graphs larger than the device's memory: labels are those of the CPU, and memory stays below what was foreseen."""

from __future__ import annotations

import ctypes
import mmap
import sys
import types
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from baco_gpu.clustering.backends import cuda_backend, get_backend
from baco_gpu.clustering.backends.backend import USERS
from baco_gpu.clustering.backends.contracted import ContractedClusters
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.backends.cuda_backend import CudaBackend
from baco_gpu.clustering.backends.device import DeviceBackend
from baco_gpu.clustering.backends.pieces import Room
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.sweeps import singletons
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda import plan
from baco_gpu.cuda.pinned import HostArray, pinned_array
from baco_gpu.cuda.plan import SMALLEST_PIECE, Placement, SolveBytes, place, solve_bytes
from baco_gpu.errors import BackendUnavailableError
from baco_gpu.graph.arrays import cuda_obstacle
from baco_gpu.graph.bipartite import BipartiteGraph
from cuda_host.device_arrays import OnDevice, strict_backend
from cuda_host.host import SMALL, host_backend, on_host, on_kernels, with_ids
from graphs import graph_of_all_lengths, random_graph
from memory import SLACK, peak
from tiers import full


def in_mmap(array):
    """Whether an array is in memory of the host, as `on_host` makes it."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, (memoryview, mmap.mmap))


class Streamed:
    """A backend that loads graphs as streamed ones; with `edges` it merges by contraction, as one of several processes
    does, and has room for so many."""

    def __init__(self, backend, edges):
        self._backend, self._room, self._contracting = backend, Room(edges or 1, on_host), edges is not None

    def clusters(self, problem, penalty, *, shared=False):
        if self._contracting:
            return ContractedClusters(self._backend, problem, penalty, shared=shared)
        return self._backend.clusters(problem, penalty, shared=shared)

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def load(self, graph, weights, *, merging=True, contracting=False):
        return self._backend.put(graph, weights, self._room, streamed=True)


def solve(backend, graph, rows, *, sweeps=2, gamma=3.0, ids=None, problem=None):
    weights = integer_weights(graph)
    penalty = gamma * weights.penalty_per_gamma
    problem = problem or backend.load(graph, weights)
    if ids is not None:
        problem = with_ids(problem, singletons(backend, problem), ids)[0]
    withins = []
    partition = multilevel(
        *(backend, problem, penalty, rows),
        seed=1,
        schedule=Schedule(sweeps, 3, 1),
        observe=lambda stage, partition: withins.append(partition.within),
    )
    partition = compact(backend, partition)
    second = [backend.second_best(problem, partition, side, penalty) for side in (0, 1)]
    return withins, [array.tolist() for array in (*partition.labels, *partition.volumes, *second)]


@on_kernels
class TestLabels:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("edges", [64, 500, 3000, 10**6, None])
    @pytest.mark.parametrize("sweeps", [0, 2])
    def test_are_those_of_the_cpu_however_little_room_there_is(self, edges, weighted, sweeps):
        """Down to where every contraction spills; rows of no edges, and hubs of more edges than fit into the room."""
        graph = graph_of_all_lengths(SMALL, 3, weighted)
        assert graph.user_degrees.max() > 64
        assert graph.user_degrees.min() == 0
        rows = (graph.num_users + graph.num_items) // 5
        found = solve(Streamed(host_backend(interrupt=3), edges), graph, rows, sweeps=sweeps)
        assert found == solve(CpuBackend(), graph, rows, sweeps=sweeps)

    def test_with_ids_of_64_bits(self):
        graph = random_graph(300, 200, 2500, seed=9, weighted=True)
        found = solve(Streamed(host_backend(), 100), graph, 90, ids=np.int64)
        assert found == solve(CpuBackend(), graph, 90)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_with_what_cupy_can_do_and_nothing_else(self, weighted):
        """Arrays of NumPy do not mix with those of a device, but where they are copied there."""

        def host(size, dtype):
            array = on_host(size, dtype).host
            return HostArray(array, array.view(OnDevice))

        graph = random_graph(120, 90, 900, seed=4, weighted=weighted)
        for edges in (50, 10**6):
            backend = strict_backend()
            problem = backend.put(graph, integer_weights(graph), Room(edges, host), streamed=True)
            assert solve(backend, graph, 40, problem=problem) == solve(CpuBackend(), graph, 40)

    @pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (2, 2)])
    def test_of_graphs_without_edges(self, sizes):
        graph = BipartiteGraph.from_edges([], [], num_users=sizes[0], num_items=sizes[1])
        assert solve(Streamed(host_backend(), 5), graph, 2) == solve(CpuBackend(), graph, 2)

    def test_one_cluster_after_another_until_the_graph_of_clusters_fits(self):
        """It is on the host at first, and on the device later."""
        graph = random_graph(200, 150, 1500, seed=2)
        weights, backend = integer_weights(graph), host_backend()
        problem = backend.put(graph, weights, Room(300, on_host), streamed=True)
        clusters = backend.contract(problem, singletons(backend, problem))
        assert len(clusters.neighbors) == 2 * graph.num_edges
        assert in_mmap(clusters.neighbors)
        assert in_mmap(clusters.weights)
        few = (np.arange(clusters.num_clusters) % 10).astype(np.int32)
        clusters = backend.contract_again(clusters, few)
        assert len(clusters.neighbors) <= 600
        assert not in_mmap(clusters.neighbors)


@on_kernels
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("nodes", "edges", "piece"), full([(3000, 40_000, 5000), (24_000, 30_000, 1500)], [(3000, 10_000, 1500)])
)
def test_memory_stays_below_the_estimate(nodes, edges, piece, weighted):
    graph = random_graph(nodes * 2 // 3, nodes // 3, edges, seed=3, weighted=weighted)
    weights = integer_weights(graph)
    backend = host_backend()
    needed = backend.needs(graph, weights, streamed=True, piece=piece)
    solve(backend, random_graph(20, 20, 50, seed=0), 10)  # builds, and whatever happens once
    streamed = Streamed(backend, piece)
    problem = []
    loaded = peak(lambda: problem.append(streamed.load(graph, weights)))
    assert loaded <= needed.graph + SLACK  # no array of edges among it

    def solve_with(sweeps):
        penalty, schedule = 2 * weights.penalty_per_gamma, Schedule(sweeps, 2, 1)
        common = {"seed": 0, "schedule": schedule, "observe": lambda stage, partition: None}
        partition = multilevel(backend, problem[0], penalty, nodes // 4, **common)
        backend.second_best(problem[0], compact(backend, partition), USERS, penalty)

    # Without sweeps merging begins at singletons: as many pairs of clusters as edges.
    measured = max(peak(lambda sweeps=sweeps: solve_with(sweeps)) for sweeps in (0, 2))
    here = needed.total - needed.graph
    assert measured <= here + SLACK
    assert here <= 3 * measured


class TestPlacement:
    def needs(self, streamed, piece):
        return solve_bytes(10**6, 10**6, 10**9, contracting=True, streamed=streamed, piece=piece)

    def test_everything_on_the_device_where_it_fits(self):
        whole = self.needs(False, None)
        assert place(whole.total, 10**9, self.needs) == Placement(False, None, whole)

    @pytest.mark.parametrize(("free", "streamed"), [(100 * 10**9, False), (20 * 10**9, False), (6 * 10**9, True)])
    def test_pieces_are_as_large_as_there_is_room_for(self, free, streamed):
        found = place(free, 10**9, self.needs)
        assert found.streamed == streamed
        assert found.needed == self.needs(streamed, found.piece)
        least = self.needs(streamed, SMALLEST_PIECE).total
        assert least < found.needed.total <= free
        assert (found.needed.total - least) / (free - least) == pytest.approx(0.75, abs=0.01)
        assert found.needed.graph < (10**9 if streamed else 10**10)

    def test_no_piece_is_larger_than_the_graph(self):
        def needs(streamed, piece):
            return solve_bytes(10, 10, 1000, contracting=True, streamed=streamed, piece=piece, hub_tables_bytes=10**6)

        assert place(10**7, 1000, needs).piece is None
        whole = needs(False, None)
        assert place(needs(False, 1000).total, 1000, needs).piece in (None, 1000)
        assert whole.total <= 10**7

    def test_what_fits_nowhere_is_told_with_the_least_that_it_takes(self):
        least = self.needs(True, SMALLEST_PIECE)
        assert place(least.total - 1, 10**9, self.needs) == Placement(True, SMALLEST_PIECE, least)
        assert place(least.total, 10**9, self.needs) == Placement(True, SMALLEST_PIECE, least)

    def test_without_merging_there_are_no_pieces(self):
        def needs(streamed, piece):
            return solve_bytes(10**6, 10**6, 10**9, streamed=streamed, piece=piece, merging=False)

        found = place(10**9, 10**9, needs)
        assert found.streamed
        assert isinstance(found.needed, SolveBytes)
        assert found.needed.merging == 0


@on_kernels
class TestLoading:
    @pytest.fixture
    def backend(self, monkeypatch):
        """The CUDA backend on kernels built for the CPU, beside a device with as much memory as a test gives it."""
        monkeypatch.setattr(plan, "SMALLEST_PIECE", 700)
        monkeypatch.setattr(cuda_backend, "pinned_array", on_host)
        backend = CudaBackend.__new__(CudaBackend)
        host = host_backend()
        DeviceBackend.__init__(backend, np, host._launch)
        backend.at_work, backend.from_host, backend.device = nullcontext, np.array, 0
        return backend

    @pytest.mark.parametrize(
        ("spare", "contracting", "streamed", "piece"),
        [
            ("whole", True, False, None),
            ("pieces", True, False, 700),
            ("edges on the host", True, True, 700),
            ("nothing", True, None, None),
            ("whole", False, False, None),
            ("edges on the host", False, True, 700),
            ("nothing", False, None, None),
        ],
    )
    def test_the_device_holds_what_it_has_room_for(
        self, backend, monkeypatch, caplog, spare, contracting, streamed, piece
    ):
        graph = random_graph(100, 70, 3000, seed=2)
        weights, kind = integer_weights(graph), {"contracting": contracting}
        least = backend.needs(graph, weights, streamed=True, piece=700, **kind).total
        free = {
            "whole": backend.needs(graph, weights, **kind).total,
            "pieces": backend.needs(graph, weights, piece=700, **kind).total,
            "edges on the host": least,
            "nothing": least - 1,
        }[spare]
        monkeypatch.setattr(cuda_backend, "free_bytes", lambda: free)
        monkeypatch.setattr(cuda_backend, "usable", lambda free: free)
        if streamed is None:
            with pytest.raises(BackendUnavailableError, match="even with its edges on the host"):
                backend.load(graph, weights, **kind)
            return
        problem = backend.load(graph, weights, **kind)
        if contracting:
            assert (problem.room and problem.room.edges) == piece
        assert problem.streamed == streamed
        assert [in_mmap(side.neighbors) for side in problem.sides] == [streamed, streamed]
        assert not any(in_mmap(side.offsets) or in_mmap(side.node_weights) for side in problem.sides)
        assert ("its edges stay in host memory" in caplog.text) == streamed
        assert solve(backend, graph, 50, problem=problem) == solve(CpuBackend(), graph, 50)


class TestPinnedMemory:
    """Against a stand-in whose pinned memory is the C library's."""

    @pytest.fixture
    def cupy(self, monkeypatch):
        cupy = types.ModuleType("cupy")

        class PinnedMemory:
            def __init__(self, size, flags=0):
                if size > 10**6:
                    raise MemoryError("cudaErrorMemoryAllocation: out of memory")
                assert flags == 2
                self.buffer = ctypes.create_string_buffer(size)
                self.ptr, self.size = ctypes.addressof(self.buffer), size

        class UnownedMemory:
            def __init__(self, ptr, size, owner, device_id=-1):
                self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id

        cupy.cuda = SimpleNamespace(
            runtime=SimpleNamespace(hostAllocMapped=2, CUDARuntimeError=MemoryError),
            PinnedMemory=PinnedMemory,
            PinnedMemoryPointer=lambda memory, offset: memory.buffer,
            UnownedMemory=UnownedMemory,
            MemoryPointer=lambda memory, offset: (memory, offset),
            Device=lambda: SimpleNamespace(id=3),
        )
        cupy.ndarray = lambda shape, dtype, memptr: SimpleNamespace(shape=shape, dtype=dtype, memptr=memptr)
        cupy.empty = np.empty
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        return cupy

    @pytest.mark.usefixtures("cupy")
    def test_both_names_are_of_the_same_bytes(self):
        array = pinned_array(5, np.int32)
        array.host[:] = range(5)
        memory, offset = array.device.memptr
        assert (memory.size, memory.device_id, offset) == (20, 3, 0)
        assert (array.device.shape, array.device.dtype) == ((5,), np.int32)
        assert np.frombuffer((ctypes.c_char * 20).from_address(memory.ptr), np.int32).tolist() == list(range(5))
        assert memory.owner is not None

    @pytest.mark.usefixtures("cupy")
    def test_nothing_is_pinned_for_nothing(self):
        assert len(pinned_array(0, np.int64).host) == len(pinned_array(0, np.int64).device) == 0

    @pytest.mark.usefixtures("cupy")
    def test_no_memory_left_is_an_error_with_a_remedy(self):
        with pytest.raises(
            BackendUnavailableError, match=r"needs 0\.01 GB more of pinned host memory: .*backend='cpu'"
        ):
            pinned_array(10**6, np.int64)


@pytest.mark.gpu
@pytest.mark.skipif(cuda_obstacle() is not None, reason="no CUDA device")
class TestOnADevice:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("edges", [64, 3000, 10**6])
    def test_labels_are_those_of_the_cpu(self, edges, weighted):
        graph = graph_of_all_lengths(SMALL, 3, weighted)
        rows = (graph.num_users + graph.num_items) // 5
        backend = get_backend("cuda")
        problem = backend.put(graph, integer_weights(graph), Room(edges, pinned_array), streamed=True)
        assert solve(backend, graph, rows, problem=problem) == solve(CpuBackend(), graph, rows)

    def test_a_graph_that_does_not_fit_is_streamed(self, monkeypatch, caplog):
        graph = random_graph(300, 200, 40_000, seed=2)
        backend, weights = get_backend("cuda"), integer_weights(graph)
        monkeypatch.setattr(plan, "SMALLEST_PIECE", 700)
        monkeypatch.setattr(
            cuda_backend, "free_bytes", lambda: backend.needs(graph, weights, streamed=True, piece=700).total
        )
        monkeypatch.setattr(cuda_backend, "usable", lambda free: free)
        assert solve(backend, graph, 100) == solve(CpuBackend(), graph, 100)
        assert "stay in host memory" in caplog.text

    @pytest.mark.parametrize(("streamed", "piece"), [(False, None), (False, 20_000), (True, 20_000)])
    def test_memory_stays_below_the_estimate(self, monkeypatch, streamed, piece):
        """What CuPy takes from its pool, the room that its sorts need included."""
        import cupy
        from cupy.cuda import MemoryHook

        # Hooks see CuPy's own pool alone.
        monkeypatch.setattr(cuda_backend, "follow_torch", lambda: None)

        class Taken(MemoryHook):
            now = most = 0

            def malloc_postprocess(self, **facts):
                self.now += facts["mem_size"]
                self.most = max(self.most, self.now)

            def free_postprocess(self, **facts):
                self.now -= facts["mem_size"]

        graph = random_graph(20_000, 10_000, 200_000, seed=3)
        backend, weights = get_backend("cuda"), integer_weights(graph)
        needed = backend.needs(graph, weights, streamed=streamed, piece=piece)
        solve(backend, random_graph(20, 20, 50, seed=0), 10)  # compiles, and whatever happens once
        pool = cupy.get_default_memory_pool()
        with cupy.cuda.using_allocator(pool.malloc), Taken() as taken:
            room = None if piece is None else Room(piece, pinned_array)
            problem = backend.put(graph, weights, room, streamed)
            solve(backend, graph, 8000, sweeps=0, problem=problem)
        assert needed.graph < taken.most <= needed.total + (1 << 18)  # sizes are rounded up
