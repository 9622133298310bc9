"""The CUDA backend: the primitives as CUDA C++ kernels, compiled on first use and driven through CuPy.

What is proven, and how: the same sources, built for the CPU, give the labels, volumes, gains and secondary labels of
the CPU backend bit for bit, in random orders of threads, whole solves included; and they compile for sm_80, sm_90,
sm_100 and sm_120. All host logic but CuPy itself takes part in those tests.

What is not: no kernel has run on a device yet. So nothing is known of its speed, of races that only a GPU's memory
order shows, and of CuPy's part (allocation, sorting, launching, streams). Therefore backend="auto" does not choose it.

A move ends with one transfer of 16 bytes to the host, because it returns how many nodes moved; so do the sizes of the
blocks. All else of a sweep stays on the device. The graph and its weights must fit the device's memory
(`baco_gpu.cuda.plan` has what a solve takes); there is no streaming of larger ones.
"""

from __future__ import annotations

from baco_gpu.clustering.backends.device import DeviceBackend, DeviceProblem
from baco_gpu.clustering.weights import NodeWeights
from baco_gpu.cuda.launch import CudaLauncher, follow_torch_stream
from baco_gpu.cuda.plan import least_bytes
from baco_gpu.errors import BackendUnavailableError
from baco_gpu.graph.arrays import import_cupy
from baco_gpu.graph.bipartite import BipartiteGraph


class CudaBackend(DeviceBackend):
    """See `Backend`; works on CuPy's current device and stream.

    Raises
    ------
    BackendUnavailableError
        If CuPy, a CUDA device or NVRTC is missing, with cause and remedy.
    """

    def __init__(self) -> None:
        super().__init__(import_cupy(), CudaLauncher())

    def load(self, graph: BipartiteGraph, weights: NodeWeights) -> DeviceProblem:
        """Put the graph and its weights on the device; where torch is at work, on its current stream from here on.

        Raises
        ------
        BackendUnavailableError
            If the device has too little free memory to solve such a graph.
        """
        follow_torch_stream()
        id_bytes = graph.csr.neighbors.dtype.itemsize
        weighted = weights.edges[0] is not None
        needed = least_bytes(graph.num_users, graph.num_items, graph.num_edges, weighted, id_bytes)
        free = self.xp.cuda.runtime.memGetInfo()[0] + self.xp.get_default_memory_pool().free_bytes()
        if needed > free:
            raise BackendUnavailableError(
                f"solving this graph of {graph.num_edges} edges needs at least {needed / 1e9:.1f} GB on the device, "
                f"which has {free / 1e9:.1f} GB free; remedy: backend='cpu' (the labels will be the same)"
            )
        return super().load(graph, weights)
