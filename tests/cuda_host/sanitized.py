"""Whole solves on kernels built with sanitizers: a process of its own, started with the sanitizers' library."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np

from baco_gpu.clustering.backends.device import DeviceBackend
from baco_gpu.clustering.backends.pieces import Room
from baco_gpu.clustering.solve.merging import compact, merge_to
from baco_gpu.clustering.solve.partners import one_sided_partners
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import integer_weights
from cuda_host.host import SMALL, HostLauncher, on_host
from graphs import random_graph


def solve(backend, graph, rows=40):
    """Sweeps, merging, a sweep that holds rows, secondary labels, partners: labels, volumes and sums."""
    weights = integer_weights(graph)
    penalty = 3 * weights.penalty_per_gamma
    problem = backend.load(graph, weights)
    partition = singletons(backend, problem)
    moved = [sweep(backend, problem, partition, penalty, seed=5, number=number) for number in range(2)]
    partition = compact(backend, merge_to(backend, problem, partition, penalty, rows))
    moved.append(sweep(backend, problem, partition, penalty, seed=5, number=2, hold_rows=True))
    second = [backend.second_best(problem, partition, side, penalty) for side in (0, 1)]
    partners = one_sided_partners(backend, problem, partition, penalty)
    arrays = (*partition.labels, *partition.volumes, *second, partners)
    return [partition.within, moved, *(array.tolist() for array in arrays)]


if __name__ == "__main__":
    launcher = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL, interrupt=5)
    for room in (None, Room(200, on_host)):
        for weighted in (False, True):
            backend = DeviceBackend(np, launcher)
            backend.load = functools.partial(backend.put, room=room, streamed=room is not None)
            result = solve(backend, random_graph(150, 100, 1500, seed=2, weighted=weighted))
            print(sum(sum(part) for part in result[2:]), result[0], *result[1])
