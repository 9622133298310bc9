"""What a solve asks of CuPy, and how often it makes the host wait, shown by arrays that note it and refuse the rest."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from baco_gpu import BalancedCoclustering
from baco_gpu.clustering.backends.backend import ITEMS, USERS
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.backends.pieces import Room
from baco_gpu.clustering.solve import merging, parameters
from baco_gpu.clustering.solve.merging import compact, merge_to
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.sweeps import count_rows, singletons, sweep
from baco_gpu.clustering.solve.targets import excesses
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda.pinned import HostArray
from baco_gpu.graph.bipartite import BipartiteGraph
from cuda_host.device_arrays import DeviceModule, OnDevice, strict_backend
from cuda_host.host import ON_KERNELS
from graphs import random_graph

pytestmark = ON_KERNELS


def labels_of(partition):
    return [np.array(labels).tolist() for labels in partition.labels]


class Recorder:
    """A launcher that notes every kernel, and how often the host had waited for the device before it."""

    def __init__(self, launch):
        # All tables of hubs at a time, as on a device.
        self.limits, self.processors = replace(launch.limits, hub_bytes=1 << 20), launch.processors
        self.launch, self.waits_before = launch, []

    def __call__(self, kernel, *arguments):
        self.waits_before.append((kernel, len(OnDevice.waits)))
        self.launch(kernel, *arguments)


class TestWaiting:
    @pytest.fixture
    def case(self):
        graph = random_graph(120, 90, 900, seed=4)
        weights, backend = integer_weights(graph), strict_backend()
        backend._launch = Recorder(backend._launch)
        there = backend.load(graph, weights)
        partition = singletons(backend, there)
        OnDevice.waits.clear()
        backend._launch.waits_before.clear()
        return backend, there, partition, CpuBackend().load(graph, weights), 3 * weights.penalty_per_gamma

    @pytest.mark.parametrize("hold_rows", [False, True])
    def test_a_sweep_waits_for_the_device_once_at_its_end(self, case, hold_rows):
        backend, there, partition, problem, penalty = case
        cpu = CpuBackend()
        expected = singletons(cpu, problem)
        for number in range(2):
            schedule = {"seed": 1, "number": number, "hold_rows": hold_rows}
            moved = sweep(backend, there, partition, penalty, **schedule)
            assert OnDevice.waits == ["get"]
            assert {waits for _, waits in backend._launch.waits_before} == {0}
            assert len(backend._launch.waits_before) == (24 if hold_rows else 20)
            backend._launch.waits_before.clear()
            assert moved == sweep(cpu, problem, expected, penalty, **schedule)
            OnDevice.waits.clear()
        value = objective(cpu, expected.within, expected.volumes, penalty)
        assert objective(backend, partition.within, partition.volumes, penalty) == value
        assert count_rows(backend, partition) == count_rows(cpu, expected)
        assert OnDevice.waits == ["get", "get"]
        assert labels_of(partition) == labels_of(expected)
        assert partition.within == expected.within

    @pytest.mark.parametrize("shared", [False, True])
    @pytest.mark.parametrize("target", [None, 150, 20, 2])
    def test_a_round_of_merging_waits_for_the_device_three_times(self, case, target, shared, monkeypatch):
        backend, there, partition, problem, penalty = case
        expected = merge_to(CpuBackend(), problem, singletons(CpuBackend(), problem), penalty, target, shared=shared)
        lowering = Mock(wraps=merging._last_merges)
        monkeypatch.setattr(merging, "_last_merges", lowering)
        merged = merge_to(backend, there, partition, penalty, target, shared=shared)
        waits, kernels = list(OnDevice.waits), [kernel for kernel, _ in backend._launch.waits_before]
        assert labels_of(merged) == labels_of(expected)
        rounds = kernels.count("pair_clusters")
        assert rounds > 1
        # Before, one for the labels in use and one for what is to be looked at, and so after every merge; one in every
        # round for the clusters that look once more, but for the first, and one for what is to merge.
        gets = 2 + kernels.count("merge_clusters") + kernels.count("list_undecided") + rounds
        gets += lowering.call_count  # once more where the pairs that raise Q are none, or too many
        assert waits == ["get"] * gets + ["__int__"]  # the weight within, at the end


def test_a_round_of_merging_launches_25_kernels_and_operations_at_most(monkeypatch):
    """Rounds with hubs in both passes, followers, and room for some of these only."""
    graph, backend = random_graph(257, 130, 2100, seed=6), strict_backend()
    weights, launches = integer_weights(graph), []
    penalty = 3 * weights.penalty_per_gamma
    problem = backend.load(graph, weights)
    backend._launch = Recorder(backend._launch)
    monkeypatch.setattr(OnDevice, "operation", staticmethod(lambda name, *_: launches.append(name)))
    clusters = backend.clusters(problem, penalty)
    clusters.begin(compact(backend, singletons(backend, problem)))
    rounds = []
    for rows in (300, 290, 200, 150, 60, 50):
        while True:
            launches.clear()
            backend._launch.waits_before.clear()
            excess = excesses(clusters.codebook_rows, rows)
            if excess[0].rows <= 0 or not clusters.merge_rising(excess):
                break
            rounds.append([*launches, *(kernel for kernel, _ in backend._launch.waits_before)])
    assert max(map(len, rounds)) <= 25
    assert any(kernels.count("add_hubs") == 2 and "follower_waits" in kernels for kernels in rounds)
    assert any(kernels.count("join_followers") == 2 for kernels in rounds)


class TestWholeSolves:
    """They give the labels of the CPU with nothing but what CuPy can do."""

    def graph(self, weighted):
        """A large component, many small ones, and nodes without edges."""
        large = random_graph(80, 60, 700, seed=1, weighted=weighted).to_scipy().tocoo()
        small = np.arange(40)
        users, items = np.concatenate([large.row, 80 + small // 2]), np.concatenate([large.col, 60 + small])
        weights = np.concatenate([large.data, 1.0 + small]) if weighted else None
        return BipartiteGraph.from_edges(users, items, weights, num_users=105, num_items=105)

    def solve(self, backend, graph, problem, rows):
        penalty = 3 * integer_weights(graph).penalty_per_gamma
        common = {"seed": 4, "schedule": Schedule(2, 2, 1), "observe": lambda stage, partition: None}
        partition = compact(backend, multilevel(backend, problem, penalty, rows, **common))
        seconds = [backend.second_best(problem, partition, side, penalty) for side in (USERS, ITEMS)]
        value = objective(backend, partition.within, partition.volumes, penalty)
        return value, *(backend.to_host(array).tolist() for array in (*partition.labels, *partition.volumes, *seconds))

    def on_host(self, size, dtype):
        array = np.empty(size, dtype)
        return HostArray(array, array.view(OnDevice))

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("rows", [None, 40, 3])
    @pytest.mark.parametrize("piece", [None, 64])
    def test_they_give_the_labels_of_the_cpu(self, weighted, rows, piece):
        graph, cpu, strict = self.graph(weighted), CpuBackend(), strict_backend()
        weights = integer_weights(graph)
        room = None if piece is None else Room(piece, self.on_host)
        problem = strict.put(graph, weights, room, streamed=piece is not None)
        expected = self.solve(cpu, graph, cpu.load(graph, weights), rows)
        assert self.solve(strict, graph, problem, rows) == expected

    @pytest.mark.parametrize(
        ("solver", "budget"),
        [
            ("multilevel", 0.4),
            ("multilevel", 0.8),
            ("paper", 0.4),
            ("paper", 0.8),
            ("multilevel", {"users": 60, "items": 12}),
        ],
    )
    def test_results_and_updates_are_those_of_the_cpu(self, monkeypatch, solver, budget):
        graph = random_graph(90, 70, 500, seed=8)
        edges = graph.to_scipy().tocoo()
        grown = BipartiteGraph.from_edges(np.append(edges.row, np.arange(90, 160)), np.append(edges.col, np.arange(70)))
        found = []
        for backend in (CpuBackend(), strict_backend()):
            monkeypatch.setattr(parameters, "get_backend", lambda name, backend=backend: backend)
            model = BalancedCoclustering(budget=budget, solver=solver, secondary="both", random_state=3)
            result = model.fit(graph).result_
            for each in (result, *([] if isinstance(budget, dict) else [result.update(grown).result])):
                found.append([each.gamma, *each.objective_trace.tolist()])
                found[-1] += [side.labels.tolist() for side in (each.users, each.items)]
                found[-1] += [side.secondary.tolist() for side in (each.users, each.items)]
        assert found[: len(found) // 2] == found[len(found) // 2 :]

    @pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (4, 0), (3, 3)])
    def test_graphs_without_edges(self, sizes):
        graph = BipartiteGraph.from_edges([], [], num_users=sizes[0], num_items=sizes[1])
        cpu, strict = CpuBackend(), strict_backend()
        for rows in (None, 2):
            found, expected = (
                self.solve(backend, graph, backend.load(graph, integer_weights(graph)), rows)
                for backend in (strict, cpu)
            )
            assert found == expected


class TestTheArrays:
    """Tests that hold nothing to account would be worse than none."""

    @pytest.fixture
    def array(self):
        OnDevice.waits.clear()
        return DeviceModule().arange(5)

    @pytest.mark.parametrize(
        ("look", "name"),
        [
            (lambda array: int(array.sum()), "__int__"),
            (lambda array: bool((array > 3).any()), "__bool__"),
            (lambda array: array[array > 2], "mask"),
            (lambda array: array[: array[2]], "__index__"),
            (lambda array: array.tolist(), "tolist"),
            (lambda array: DeviceModule().flatnonzero(array), "flatnonzero"),
            (lambda array: DeviceModule().zeros(array[1]), "zeros"),
        ],
    )
    def test_a_look_is_noted(self, array, look, name):
        look(array)
        assert name in OnDevice.waits

    def test_what_stays_there_is_not(self, array):
        array += DeviceModule().where(array > 1, array[array - 1], 7)
        assert isinstance(array.sum() + 1, OnDevice)
        assert not OnDevice.waits

    @pytest.mark.parametrize(
        "mix",
        [
            lambda array: array + np.arange(5),
            lambda array: array[np.arange(2)],
            lambda array: np.diff(array),
            lambda array: DeviceModule().concatenate([array, np.arange(2)]),
        ],
    )
    def test_host_and_device_do_not_mix(self, array, mix):
        with pytest.raises(TypeError, match="takes no array of"):
            mix(array)

    def test_numbers_of_two_dtypes_are_not_joined(self, array):
        with pytest.raises(AssertionError, match="float64"):
            DeviceModule().array((array[0], array.astype(float)[0]))

    def test_what_cupy_does_not_take_is_refused(self, array):
        pytest.importorskip("cupy", reason="needs CuPy")
        with pytest.raises(TypeError, match="axis"):
            DeviceModule().lexsort(DeviceModule().stack([array, array]), axis=0)
