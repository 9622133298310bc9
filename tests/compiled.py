"""Compiles what tests share, before there are several processes of them: Numba's loops, and the kernels for the CPU.

Both are kept on disk, so that a second run has nothing to do. Run as
`python tests/compiled.py loops` and `python tests/compiled.py kernels`.
"""

from __future__ import annotations

import sys

import torch

from baco_gpu import BalancedCoclustering, BipartiteGraph, QuantizedEmbedding, RowwiseRMSprop
from baco_gpu.budget import Budget, TableSize
from baco_gpu.methods.registry import find_method
from cuda_host.host import compiler, full_libraries, small_libraries
from graphs import random_graph


def loops() -> None:
    for weighted in (False, True):
        graph = random_graph(60, 40, 400, seed=0, weighted=weighted)
        BalancedCoclustering(budget=0.4, secondary="both").fit(graph)
    edges = graph.to_scipy().tocoo()
    for dtype in ("int32", "int64"):
        BipartiteGraph.from_edges(edges.row.astype(dtype)[::-1], edges.col.astype(dtype)[::-1])
    for name in ("propagation", "ebmd", "itcc"):
        find_method(name).assign(graph, Budget.of(0.5), TableSize(graph.num_users, graph.num_items, 8), 0)
    BalancedCoclustering(0.5, solver="bisecting", embedding_dim=8).fit(graph)
    for bits in (16, 8, 5):
        table = QuantizedEmbedding(4, 3, bits=bits)
        table(torch.arange(4)).sum().backward()
        RowwiseRMSprop(table).step()


def kernels() -> None:
    if compiler() is not None:
        small_libraries()
        full_libraries()


if __name__ == "__main__":
    {"loops": loops, "kernels": kernels}[sys.argv[1]]()
