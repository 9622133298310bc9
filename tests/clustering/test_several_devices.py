"""Backends on several GPUs of one machine, which stand-ins are: each works where it belongs, whatever others do."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baco_gpu import BalancedCoclustering
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda.launch import CudaLauncher
from baco_gpu.distributed import coclustering
from baco_gpu.errors import BackendUnavailableError, DeviceLostError, InputError
from cuda_host.device_arrays import OnDevice, current_device, use_device
from cuda_host.host import ON_KERNELS
from cuda_host.stand_in import Machine
from graphs import random_graph

pytestmark = ON_KERNELS


@pytest.fixture
def machine(monkeypatch):
    found = Machine(devices=2)
    found.install(monkeypatch)
    yield found
    use_device(0)


def labels_of(backend, graph):
    result = BalancedCoclustering(budget=0.4, secondary="both", random_state=3, backend=backend).fit(graph).result_
    return [side.tolist() for each in (result.users, result.items) for side in (each.labels, each.secondary)]


class TestOneThread:
    @pytest.mark.parametrize("number", [0, 1])
    def test_a_backend_works_on_the_device_of_its_name_and_leaves_the_current_one(self, machine, number):
        graph = random_graph(90, 70, 500, seed=8)
        assert labels_of(f"cuda:{number}", graph) == labels_of("cpu", graph)
        assert {device for device, kernels in machine.loaded.items() if kernels.launched} == {number}
        assert current_device() == 0

    def test_without_a_number_it_is_the_current_device(self, machine):
        use_device(1)
        assert (get_backend("cuda").device, get_backend("cuda:0").device) == (1, 0)

    def test_updates_and_two_backends_in_turns(self, machine):
        graph = random_graph(60, 40, 300, seed=2)
        weights, cpu = integer_weights(graph), CpuBackend()
        expected = singletons(cpu, cpu.load(graph, weights))
        state = []
        for number in (0, 1):
            backend = get_backend(f"cuda:{number}")
            with backend.at_work():
                problem = backend.load(graph, weights)
                state.append((backend, problem, singletons(backend, problem)))
        for turn in range(2):
            for backend, problem, partition in state:
                with backend.at_work():
                    sweep(backend, problem, partition, weights.penalty_per_gamma, seed=1, number=turn)
            sweep(cpu, cpu.load(graph, weights), expected, weights.penalty_per_gamma, seed=1, number=turn)
        for number, (_, _, partition) in enumerate(state):
            for side in (0, 1):
                assert partition.labels[side].device.id == number
                assert partition.labels[side].get().tolist() == expected.labels[side].tolist()
        result = BalancedCoclustering(budget=0.4, backend="cpu").fit(graph).result_
        again = [result.update(graph, backend=name).result for name in ("cpu", "cuda:1")]
        assert again[0].labels_sha256 == again[1].labels_sha256

    @pytest.mark.parametrize("name", ["cuda:2", "cuda:99"])
    def test_a_device_that_is_not_there_is_told_with_those_that_are(self, machine, name):
        with pytest.raises(BackendUnavailableError, match=rf"^backend='{name}' is not .*: CuPy finds cuda:0, cuda:1 "):
            get_backend(name)

    @pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:x", "cuda:1 ", "CUDA:1", "cuda:00001"])
    def test_names_of_no_device_are_refused(self, name):
        with pytest.raises(InputError, match=r"^backend must be one of 'auto', 'cpu', 'cuda', got "):
            get_backend(name)


def test_backends_in_two_threads_do_not_meet(machine):
    graphs = [random_graph(90, 70, 500, seed=8), random_graph(60, 80, 400, seed=9)]
    expected = [labels_of("cpu", graph) for graph in graphs]
    found, start = {}, threading.Barrier(2)

    def solve(number):
        start.wait()
        found[number] = [labels_of(f"cuda:{number}", graphs[number]) for _ in range(3)]

    threads = [threading.Thread(target=solve, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [expected[number]] * 3 for number in (0, 1)}


class TestLaunches:
    """A kernel follows any address it is given, so whoever gives it one of another device is told before."""

    def given(self, labels):
        return [labels, labels.astype(np.int64), 3, labels.astype(np.int64)]

    def test_arrays_of_another_device_or_the_host_are_refused(self, machine):
        launch = CudaLauncher(1)
        with pytest.raises(TypeError, match=r"^sums_by_label: labels must be on cuda:1, got one on cuda:0$"):
            launch("sums_by_label", ("int",), 1, self.given(np.zeros(3, np.int32).view(OnDevice)))
        with pytest.raises(TypeError, match=r"^sums_by_label: labels must be on cuda:1, got one on the host$"):
            launch("sums_by_label", ("int",), 1, self.given(np.zeros(3, np.int32)))
        assert not machine.loaded[1].launched
        use_device(1)
        launch("sums_by_label", ("int",), 1, self.given(np.zeros(3, np.int32).view(OnDevice)))
        assert machine.loaded[1].launched == {"sums_by_label<int>"}

    def test_a_tensor_on_the_cpu_is_refused(self, machine):
        labels = torch.zeros(3, dtype=torch.int32)
        arguments = [labels, labels.long(), 3, labels.long()]
        with pytest.raises(TypeError, match=r"^sums_by_label: labels must be on cuda:0, got one on the host$"):
            CudaLauncher(0)("sums_by_label", ("int",), 1, arguments)

    @pytest.mark.parametrize(("number", "refused"), [(0, True), (1, False)])
    def test_a_tensor_is_where_it_says(self, machine, number, refused):
        class Elsewhere:
            dtype, is_contiguous = np.dtype("int32"), staticmethod(lambda: True)
            get_device, data_ptr = staticmethod(lambda: number), staticmethod(np.zeros(8, np.int64).ctypes.data.__int__)

        values = Elsewhere()
        longs = type("Longs", (Elsewhere,), {"dtype": np.dtype("int64")})()
        launch = CudaLauncher(1)
        with machine.cuda.Device(1):
            if refused:
                with pytest.raises(TypeError, match=r"labels must be on cuda:1, got one on cuda:0"):
                    launch("sums_by_label", ("int",), 1, [values, longs, 3, longs])
            else:
                launch("sums_by_label", ("int",), 1, [values, longs, 3, longs])


class TestRanks:
    @pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
    def test_a_rank_works_on_the_device_by_which_it_sends(self, machine, asked):
        ranks = SimpleNamespace(device=torch.device("cuda", 1))
        assert coclustering._on_device_of(ranks, get_backend("cuda"), asked).device == 1

    def test_another_one_by_number_is_refused(self, machine):
        ranks = SimpleNamespace(device=torch.device("cuda", 1))
        expected = "^backend must be 'cuda' or the device of its process group, 'cuda:1', got 'cuda:0'$"
        with pytest.raises(InputError, match=expected):
            coclustering._on_device_of(ranks, get_backend("cuda:0"), "cuda:0")

    def test_over_gloo_every_backend_stays(self, machine):
        ranks, backend = SimpleNamespace(device=torch.device("cpu")), get_backend("cuda:1")
        assert coclustering._on_device_of(ranks, backend, "cuda:1") is backend


class TestFaults:
    @pytest.fixture
    def graph(self):
        return random_graph(60, 40, 300, seed=2)

    @pytest.fixture
    def failing(self, machine, monkeypatch):
        """Lets the third launch of a solve raise an error, and waiting for the device, too, where it sticks."""

        launches, stuck, original = [], [], CudaLauncher.__call__

        def synchronize():
            for error in stuck:
                raise error

        machine.cuda.runtime.deviceSynchronize = synchronize

        def fail(error, sticks=False):
            def launch(self, *arguments):
                launches.append(arguments[0])
                if len(launches) == 3:
                    stuck.extend([error] * sticks)
                    raise error
                original(self, *arguments)

            monkeypatch.setattr(CudaLauncher, "__call__", launch)

        return fail

    def test_memory_that_runs_out_amid_a_solve_is_told_with_what_is_free(self, failing, graph):
        class OutOfMemoryError(MemoryError):
            """CuPy's, by its name."""

        failing(OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 512 bytes)."))
        expected = (
            r"^cuda:1 has run out of memory: Out of memory allocating 1,024 bytes \(allocated so far: 512 bytes\), and "
            r"4\.29 GB are free; others may .*; remedy: backend='cpu'"
        )
        with pytest.raises(BackendUnavailableError, match=expected):
            labels_of("cuda:1", graph)

    def test_an_error_that_sticks_is_a_lost_device(self, failing, graph):
        lost = RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
        failing(lost, sticks=True)
        expected = "^cuda:1 has failed, and nothing more can run on it in this process: cudaErrorIllegalAddress: an "
        with pytest.raises(DeviceLostError, match=expected) as caught:
            labels_of("cuda:1", graph)
        assert caught.value.__cause__ is lost
        assert "\n" not in str(caught.value)

    def test_an_error_that_passes_is_itself(self, failing, graph):
        failing(RuntimeError("cudaErrorInvalidValue: invalid argument"))
        with pytest.raises(RuntimeError, match=r"^cudaErrorInvalidValue: invalid argument$"):
            labels_of("cuda:1", graph)

    def test_headers_that_are_missing_are_told_as_the_backend_is_made(self, machine):
        def compiled(*arguments):
            raise RuntimeError('tmp.cu(1): catastrophic error: cannot open source file "cuda_fp16.h"\n  #include\n')

        machine.arange = compiled
        expected = (
            r"^CuPy computes nothing on this device: tmp.cu\(1\): catastrophic error: cannot open source file "
            r'"cuda_fp16.h"; remedy where headers are missing: pip install'
        )
        with pytest.raises(BackendUnavailableError, match=expected):
            get_backend("cuda")


def test_the_stand_in_refuses_what_several_devices_do(machine):
    array = sys.modules["cupy"].arange(3)
    use_device(1)
    with pytest.raises(ValueError, match=r"add takes no array of cuda:0 where cuda:1 is current"):
        array + 1
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_INVALID_HANDLE: .* of cuda:0 on cuda:1"):
        CudaLauncher(0)("sums_by_label", ("int",), 1, [array.astype(np.int32), array, 3, array])
