"""What stands between Python and a launch: the kernels by name, typed arguments, streams, the choice of backend."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from importlib.resources import files
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from baco_gpu.clustering import backends
from baco_gpu.clustering.backends import backend, cuda_backend
from baco_gpu.clustering.backends.device import DeviceBackend
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda import loader
from baco_gpu.cuda.catalogue import KERNELS, SOURCES, instance, instances, source_text
from baco_gpu.cuda.launch import CudaLauncher, typed
from baco_gpu.cuda.plan import Limits, usable
from baco_gpu.cuda.sharing import follow_torch, free_bytes
from baco_gpu.errors import BackendUnavailableError
from cuda_host.device_arrays import OnDevice
from graphs import random_graph


class TestCatalogue:
    def test_name_expressions(self):
        assert instance("label_tiny", ("int", "false", "MOVE")) == "label_tiny<int, false, MOVE>"
        assert instance("block_of_node", ()) == "block_of_node"
        assert len(instances("label_move.cu")) == 2 * 2 * 2 * 2
        assert len(instances("codebook.cu")) == 4 * 2 * 2 * 2 + 2 * 2 * 2 + 5 * 4 * 2
        counts = [len(instances(source)) for source in SOURCES]
        assert len({name for source in SOURCES for name in instances(source)}) == sum(counts) == 155

    @pytest.mark.parametrize("values", [(), ("int",), ("int", "false", "STAY"), ("int", "false", "MOVE", "x")])
    def test_no_other_instances(self, values):
        with pytest.raises(ValueError, match=r"label_tiny has the template parameters"):
            instance("label_tiny", values)

    @pytest.mark.parametrize("source", SOURCES)
    def test_sources_need_no_other_file(self, source):
        text = source_text(source)
        assert "#include" not in text
        assert text.startswith(f'#line 1 "{source}"\n')
        assert text.count('#line 1 "common.cuh"') == 1
        for name, kernel in KERNELS.items():
            assert (f" {name}(" in text) == (kernel.source == source)

    def test_lines_are_those_of_the_files(self):
        """Whatever stands on a line of a file is announced as that line of that file."""
        here, line, seen = "", 0, {}
        for row in source_text("label_move.cu").splitlines():
            if row.startswith("#line "):
                _, number, name = row.split()
                here, line = name.strip('"'), int(number)
            else:
                seen[here, line] = row
                line += 1
        for name in ("label_move.cu", "candidate.cuh", "table.cuh", "common.cuh"):
            original = files("baco_gpu.kernels").joinpath(name).read_text(encoding="utf-8")
            for number, row in enumerate(original.splitlines(), 1):
                assert seen.get((name, number), "") in (row, ""), (name, number)


class TestTypes:
    def arguments(self):
        labels = np.zeros(3, np.int32)
        return [labels, np.zeros(3, np.int64), 3, np.zeros(5, np.int64)]

    def test_numbers_get_the_type_that_the_kernel_expects(self):
        labels, values, count, sums = typed("sums_by_label", ("int",), self.arguments())
        assert (type(count), count) == (np.int64, 3)
        assert labels.dtype == np.int32
        hashed = typed("block_of_node", (), [2**64 - 1, 4, np.int64(2), np.zeros(4, np.int32), np.zeros(2, np.int64)])
        assert [type(number) for number in hashed[:3]] == [np.uint64, np.int64, np.uint64]
        assert values.dtype == sums.dtype == np.int64

    @pytest.mark.parametrize(
        ("place", "wrong", "message"),
        [
            (0, np.zeros(3, np.int64), "labels must be a contiguous array of int32, got int64"),
            (1, np.zeros(3, np.float64), "values must be a contiguous array of int64, got float64"),
            (1, [1, 2, 3], "values must be a contiguous array of int64, got list"),
            (1, np.zeros(6, np.int64)[::2], "values must be a contiguous array of int64"),
            (3, None, "sums must be an array, got None"),
        ],
    )
    def test_wrong_arrays_are_refused(self, place, wrong, message):
        arguments = self.arguments()
        arguments[place] = wrong
        with pytest.raises(TypeError, match=f"sums_by_label: {message}"):
            typed("sums_by_label", ("int",), arguments)

    def test_too_few_arguments_are_refused(self):
        with pytest.raises(TypeError, match="sums_by_label takes 4 arguments, got 3"):
            typed("sums_by_label", ("int",), self.arguments()[:3])

    def test_only_kernels_without_weights_do_without_them(self):
        ids, longs = np.zeros(3, np.int32), np.zeros(4, np.int64)
        arguments = [longs, ids, None, 3, ids, ids, longs]
        assert typed("weight_within", ("int", "false"), arguments)[2] is None
        with pytest.raises(TypeError, match="weight_within: weights must be an array, got None"):
            typed("weight_within", ("int", "true"), arguments)


class FakeDevice:
    attributes: ClassVar = {"MultiProcessorCount": 132}
    compute_capability = "90"

    def __init__(self, number):
        self.id = number

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


class FakeStream:
    """A stream of whoever made it; `used` lists those that became current."""

    used: ClassVar = []

    def __init__(self, pointer):
        self.pointer = pointer

    @classmethod
    def from_external(cls, stream):
        return cls(stream.__cuda_stream__()[1])

    def use(self):
        self.used.append(self.pointer)


def fake_cupy(*, devices=1):
    """As much of CuPy as stands between the backend and a device; `used` lists the streams made current."""
    used = FakeStream.used
    used.clear()
    cupy = ModuleType("cupy")
    cupy.used = used
    pool = SimpleNamespace(free_bytes=lambda: 1000, used_bytes=lambda: 300, get_limit=lambda: 0, malloc=object())
    allocators = [pool.malloc]
    cupy.allocators = allocators
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = SimpleNamespace(
        Device=lambda number=0: FakeDevice(number or 0),
        Stream=FakeStream,
        PythonFunctionAllocator=lambda allocate, free: SimpleNamespace(malloc=(allocate, free)),
        get_allocator=lambda: allocators[-1],
        set_allocator=allocators.append,
        get_current_stream=lambda: SimpleNamespace(ptr=used[-1] if used else 0),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: devices,
            memGetInfo=lambda: (50_000, 10**9),
            deviceSynchronize=lambda: None,
            CUDARuntimeError=RuntimeError,
        ),
    )
    cupy.arange = np.arange
    return cupy


def fake_torch(*, pointer=77, device=0, initialized=True):
    current = SimpleNamespace(cuda_stream=pointer)
    blocks = {}

    def allocate(size, device, stream):
        blocks[len(blocks) + 1] = (size, device, stream)
        return len(blocks)

    return SimpleNamespace(
        blocks=blocks,
        cuda=SimpleNamespace(
            caching_allocator_alloc=allocate,
            caching_allocator_delete=blocks.pop,
            memory_reserved=lambda device: 9000,
            memory_allocated=lambda device: 4000,
            is_initialized=lambda: initialized,
            current_device=lambda: device,
            current_stream=lambda device: current,
        ),
    )


class TestLauncher:
    def test_kernels_get_grids_and_typed_arguments(self, monkeypatch):
        launched = []
        kernels = {
            "block_of_node": lambda *launch: launched.append(launch),
            "weight_within<int, false>": lambda *launch: launched.append(launch),
        }
        monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
        monkeypatch.setattr(loader, "_nvrtc", lambda architecture: None)
        monkeypatch.setattr(loader, "Kernels", lambda architecture, limits: kernels)
        loader._kernels_of.cache_clear()
        try:
            launcher = CudaLauncher(3, Limits(warps=4))
        finally:
            loader._kernels_of.cache_clear()
        assert (launcher.device, launcher.processors) == (3, 132)
        blocks, ids, longs = (OnThird(size, dtype) for size, dtype in ((9, "i4"), (3, "i4"), (4, "i8")))
        launcher("block_of_node", (), 7, [5, 9, 4, blocks, longs])
        launcher("weight_within", ("int", "false"), 2, [longs, ids, None, 3, ids, ids, longs])
        (grid, block, arguments, shared, stream), (_, _, without_weights, *_) = launched
        assert (grid, block, shared, stream) == ((7,), (128,), 0, None)
        assert [type(argument) for argument in arguments] == [np.uint64, np.int64, np.uint64, OnThird, OnThird]
        assert arguments[3] is blocks
        assert (type(without_weights[2]), without_weights[2]) == (np.uintp, 0)


class OnThird(np.ndarray):
    """An array of the device cuda:3."""

    device = FakeDevice(3)


class TestSharing:
    def test_torchs_stream_becomes_cupys_once(self, monkeypatch):
        cupy = fake_cupy()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", fake_torch())
        follow_torch()
        follow_torch()
        assert cupy.used == [77]

    def test_a_stream_that_is_cupys_already_stays(self, monkeypatch):
        cupy = fake_cupy()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", fake_torch(pointer=0))
        follow_torch()
        assert cupy.used == []

    def test_every_thread_and_device_keeps_the_stream_that_it_follows(self, monkeypatch):
        """CuPy forgets a stream that nobody else keeps, and whatever comes next goes to the default one."""
        cupy, kept = fake_cupy(), []
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setattr(FakeStream, "use", lambda stream: kept.append(weakref.ref(stream)))
        one_at_a_time, here = threading.Lock(), threading.Barrier(4)

        def follow(number, pointer):
            cupy.cuda.Device = lambda: FakeDevice(number)
            sys.modules["torch"] = fake_torch(pointer=pointer)
            follow_torch()

        def work(first):
            for number in (0, 1):
                with one_at_a_time:
                    follow(number, first + number)
            here.wait()
            here.wait()

        monkeypatch.setitem(sys.modules, "torch", None)
        threads = [threading.Thread(target=work, args=(10 * number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        here.wait()
        gc.collect()
        alive = sorted(stream().pointer for stream in kept if stream() is not None)
        here.wait()
        for thread in threads:
            thread.join()
        assert alive == [10, 11, 20, 21, 30, 31]

    def test_the_stream_is_that_of_cupys_device_whichever_is_torchs(self, monkeypatch):
        cupy, torch = fake_cupy(), fake_torch()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", torch)
        cupy.cuda.Device = lambda: FakeDevice(1)
        torch.cuda.current_stream = lambda device: SimpleNamespace(cuda_stream=70 + device)
        follow_torch()
        assert cupy.used == [71]

    def test_a_pool_that_somebody_uses_for_a_while_stays(self, monkeypatch):
        cupy, torch = fake_cupy(), fake_torch()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", torch)

        def refused(allocator):
            raise ValueError("Can't change the global allocator inside using_allocator context manager.")

        cupy.cuda.set_allocator = refused
        follow_torch()
        assert cupy.used == [77]
        assert len(cupy.allocators) == 1
        assert free_bytes() == 51_000

    @pytest.mark.parametrize("torch", [None, fake_torch(initialized=False)])
    def test_nothing_changes_where_torch_is_not_at_work(self, monkeypatch, torch):
        cupy = fake_cupy()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        if torch is None:
            monkeypatch.delitem(sys.modules, "torch", raising=False)
        else:
            monkeypatch.setitem(sys.modules, "torch", torch)
        follow_torch()
        assert cupy.used == []
        assert len(cupy.allocators) == 1

    def test_memory_comes_from_torch_for_the_stream_in_use(self, monkeypatch):
        cupy, torch = fake_cupy(), fake_torch()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert free_bytes() == 51_000
        follow_torch()
        follow_torch()
        _, (allocate, give_back) = cupy.allocators
        address = allocate(100, 0)
        assert torch.blocks == {address: (100, 0, 77)}
        give_back(address, 0)
        assert torch.blocks == {}
        assert free_bytes() == 50_000 + 9000 - 4000

    def test_an_allocator_that_somebody_chose_stays(self, monkeypatch):
        cupy = fake_cupy()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "torch", fake_torch())
        cupy.cuda.set_allocator("another")
        follow_torch()
        assert cupy.allocators[-1] == "another"
        assert free_bytes() == 50_000


def free_for(needed):
    """What must be free for that much to be usable."""
    return next(free for free in range(needed, 2 * needed) if usable(free) >= needed)


class TestTheBackend:
    def test_it_has_every_primitive(self):
        names = {name for name in vars(backend.Backend) if not name.startswith("_")} - {"name", "xp"}
        assert all(callable(getattr(DeviceBackend, name)) for name in names)

    @pytest.fixture
    def backend(self, monkeypatch):
        cupy = fake_cupy()
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        launcher = SimpleNamespace(limits=Limits(), processors=132, device=0)
        monkeypatch.setattr(cuda_backend, "CudaLauncher", lambda device: launcher)
        return backends.get_backend("cuda")

    def test_it_is_found_where_there_is_a_device(self, backend):
        assert backend.name == "cuda"
        assert backend.xp is sys.modules["cupy"]

    @pytest.mark.parametrize("free", [50_000, 700_000])
    def test_a_graph_that_does_not_fit_is_refused_with_its_needs_before_anything_is_allocated(self, backend, free):
        graph = random_graph(1000, 1000, 5000, seed=0)
        backend.xp.cuda.runtime.memGetInfo = lambda: (free - 1000, 10**9)  # the pool has 1000 more
        needed = backend.needs(graph, integer_weights(graph), streamed=True, piece=graph.num_edges).total
        assert needed > 700_000
        expected = (
            rf"this graph of {graph.num_edges} edges takes up to {needed / 1e9:.2f} GB on the device even with its "
            r"edges on the host \(its nodes 0\.00 GB, merging up to 0\.00 GB\), and cuda:0 has "
            rf"{usable(free) / 1e9:.2f} GB to give of {free / 1e9:.2f} GB that are free; remedy: backend='cpu'"
        )
        with pytest.raises(BackendUnavailableError, match=expected):
            backend.load(graph, integer_weights(graph))

    def test_arrays_go_to_the_device_past_the_pool_of_pinned_memory(self, backend):
        """CuPy's `asarray` would stage them there, rounded up to a power of two, and keep the room."""
        array = np.arange(6)[::2]
        backend.xp.empty = lambda shape, dtype: np.empty(shape, dtype).view(OnDevice)
        there = backend.from_host(array)
        assert (type(there), there.dtype, there.view(np.ndarray).tolist()) == (OnDevice, array.dtype, [0, 2, 4])

    def test_the_limit_of_the_pool_counts(self, backend):
        assert free_bytes() == 51_000
        pool = backend.xp.get_default_memory_pool()
        pool.get_limit = lambda: 40_300
        assert free_bytes() == 40_000
        pool.get_limit = lambda: 60_000
        assert free_bytes() == 51_000

    def test_without_merging_less_has_to_fit(self, backend):
        graph = random_graph(1000, 1000, 5000, seed=0)
        weights = integer_weights(graph)
        sweeps_alone = backend.needs(graph, weights, merging=False).total
        backend.xp.cuda.runtime.memGetInfo = lambda: (free_for(sweeps_alone) - 1000, 10**9)
        backend.from_host = np.asarray
        assert backend.load(graph, weights, merging=False).num_users == 1000
        with pytest.raises(BackendUnavailableError, match="merging"):
            backend.load(graph, weights)
        least = backend.needs(graph, weights, merging=False, streamed=True).total
        assert least < sweeps_alone
        backend.xp.cuda.runtime.memGetInfo = lambda: (free_for(least) - 1001, 10**9)
        with pytest.raises(BackendUnavailableError, match=r"sweeps up to"):
            backend.load(graph, weights, merging=False)
