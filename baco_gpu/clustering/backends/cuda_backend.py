"""The CUDA backend: the primitives as CUDA C++ kernels, compiled on first use and driven through CuPy.

What is proven, and how: the same sources, built for the CPU, give the labels, volumes, gains and secondary labels of
the CPU backend bit for bit, in random orders of threads, whole solves included; and they compile for sm_80, sm_90,
sm_100 and sm_120. All host logic but CuPy itself takes part in those tests, also on arrays that refuse what CuPy does
not do.

What is not: no kernel has run on a device yet. So nothing is known of its speed, of races that only a GPU's memory
order shows, and of CuPy's part (allocation, sorting, launching, streams). Therefore backend="auto" does not choose it.

Within a sweep the host never waits for the device: the sizes of blocks stay there, grids do not depend on them, and
what a sweep has gained and moved is read once at its end, 16 bytes. A round of merging takes three transfers, of how
many clusters have changed, how many of the others look at their edges once more, and how many merge; CuPy's sorts may
wait besides. What a solve takes of the device's memory is known beforehand (`baco_gpu.cuda.plan.solve_bytes`);
edges that do not fit are read from pinned memory of the host.

Why a sweep is not captured into a CUDA graph: it launches 24 kernels at most, and some 20 operations of CuPy's that
fill arrays or add them up. At an assumed 15 microseconds each, most of them spent in Python, that is 1 ms. The device
would be busy for as long with 15 million edges (two visits to each in a sweep, 3e10 visits a second: the goal on an
H100); on a smaller graph a sweep waits for its launches, and a replay would take a tenth of them. But a captured
sweep belongs to the arrays of one partition, and capturing takes as long as a sweep: the five sweeps from singletons
would save 3 ms, and the two after each step of merging, on new arrays each, nothing. Rounds of merging, of which
there are more, launch about as much each, and cannot be replayed, since their sizes change. Should a profile show
that the 3 ms matter: a sweep reads nothing, and sorts nothing, until its end; the words that seed its hashes would
have to come from the device's memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import numpy as np

from baco_gpu.clustering.backends.backend import Array, NodeWeights
from baco_gpu.clustering.backends.device import DeviceBackend, DeviceProblem
from baco_gpu.clustering.backends.pieces import Room
from baco_gpu.cuda.faults import out_of_memory, telling_lost_device
from baco_gpu.cuda.launch import CudaLauncher
from baco_gpu.cuda.pinned import pinned_array
from baco_gpu.cuda.plan import SolveBytes, place, usable
from baco_gpu.cuda.sharing import follow_torch, free_bytes
from baco_gpu.errors import BackendUnavailableError, brief
from baco_gpu.graph.arrays import cuda_obstacle, import_cupy
from baco_gpu.graph.bipartite import BipartiteGraph

_log = logging.getLogger(__name__)


def backend_on(device: int | None) -> CudaBackend:
    """The backend; BackendUnavailableError where it cannot run, with the cause."""
    obstacle = cuda_obstacle()
    if obstacle is not None:
        raise BackendUnavailableError(f"backend='cuda' is not available: {obstacle}")
    return CudaBackend(device)


class CudaBackend(DeviceBackend):
    """See `Backend`; works on one device and on the streams that are current there: threads have one each, or share.

    Parameters
    ----------
    device : int, optional
        Its number; without one it is CuPy's current device.

    Attributes
    ----------
    device : int

    Raises
    ------
    BackendUnavailableError
        If CuPy, the device, NVRTC or CUDA's headers are missing, with cause and remedy.
    """

    def __init__(self, device: int | None = None) -> None:
        cupy = import_cupy()
        count = cupy.cuda.runtime.getDeviceCount()
        if device is not None and device >= count:
            names = ", ".join(f"cuda:{number}" for number in range(count))
            raise BackendUnavailableError(f"backend='cuda:{device}' is not available: CuPy finds {names} here")
        launch = CudaLauncher(device)
        super().__init__(cupy, launch)
        self.device = launch.device
        with self.at_work():
            _try_arrays(cupy)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For the block the device is CuPy's current one; memory that runs out is a `BackendUnavailableError` that says
        how much is free, and an error that sticks to the device a `DeviceLostError`."""
        runtime, name = self.xp.cuda.runtime, f"cuda:{self.device}"
        with self.xp.cuda.Device(self.device), telling_lost_device(name, runtime.deviceSynchronize):
            try:
                yield
            except Exception as error:
                if not out_of_memory(error):
                    raise
                raise BackendUnavailableError(
                    f"{name} has run out of memory: {brief(error)}, and {_gb(free_bytes())} are free; others may have "
                    "taken some since the solve began; remedy: backend='cpu' (the labels will be the same)"
                ) from error

    def from_host(self, array: np.ndarray) -> Array:
        # `asarray` would go through a pool of pinned memory that rounds sizes up to powers of two and keeps them.
        there = self.xp.empty(array.shape, array.dtype)
        there.set(array)
        return there

    def load(
        self, graph: BipartiteGraph, weights: NodeWeights, *, merging: bool = True, contracting: bool = False
    ) -> DeviceProblem:
        """Put the graph and its weights on the device; where torch is at work, CuPy is on its current stream and takes
        memory from its allocator from here on.

        Where the device has too little free memory for all of it, the edges stay in pinned memory of the host, which is
        logged; of several processes, each contracts its share in pieces before. The labels are the same.

        Raises
        ------
        BackendUnavailableError
            If it has too little even for that, before anything is put there; if the host has none left to pin.
        """
        with self.at_work():
            follow_torch()
            return self._placed(graph.to("cpu"), weights, merging, contracting)

    def _placed(self, host: BipartiteGraph, weights: NodeWeights, merging: bool, contracting: bool) -> DeviceProblem:
        free = free_bytes()

        def needs(streamed: bool, piece: int | None) -> SolveBytes:
            return self.needs(host, weights, merging=merging, contracting=contracting, streamed=streamed, piece=piece)

        placement = place(usable(free), host.num_edges, needs)
        needed = placement.needed
        if needed.total > usable(free):
            phase, most = max(("sweeps", needed.sweeping), ("merging", needed.merging), key=itemgetter(1))
            raise BackendUnavailableError(
                f"solving this graph of {host.num_edges} edges takes up to {_gb(needed.total)} on the device even with "
                f"its edges on the host (its nodes {_gb(needed.graph)}, {phase} up to {_gb(most)}), and cuda:"
                f"{self.device} has {_gb(usable(free))} to give of {_gb(free)} that are free; remedy: backend='cpu' "
                "(the labels will be the same)"
            )
        if placement.streamed:
            _log.warning(
                "a graph of %d edges does not fit into the %s that are free on the device: its edges stay in host "
                "memory, from where every sweep reads them (the labels are the same)",
                *(host.num_edges, _gb(usable(free))),
            )
        room = None if placement.piece is None else Room(placement.piece, pinned_array)
        problem = self.put(host, weights, room, placement.streamed)
        problem.planned = needed.total
        return problem


def _try_arrays(cupy: Any) -> None:
    """Raise BackendUnavailableError unless CuPy computes: it compiles what it does with arrays, by CUDA's headers."""
    try:
        total = int((cupy.arange(3) + 1).sum())
    except Exception as error:
        raise BackendUnavailableError(
            f"CuPy computes nothing on this device: {brief(error)}; remedy where headers are missing: pip install "
            "'baco_gpu[cuda13]' (or [cuda12]), which brings them"
        ) from error
    assert total == 6


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
