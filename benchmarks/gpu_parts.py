"""The parts of `benchmarks.gpu`: what each measures, and how long it may take."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]  # "case", and numbers or words by name
_LARGE = 10**8  # edges


class Options(NamedTuple):
    """What the parts are told.

    Attributes
    ----------
    backend : str, of the solver
    device : str, of PyTorch
    edges : tuple of int, of the graphs
    scale : float, of all other sizes
    seed : int
    """

    backend: str
    device: str
    edges: tuple[int, ...]
    scale: float
    seed: int

    def size(self, full: float, least: int = 1) -> int:
        return max(int(full * self.scale), least)

    def repeats(self, full: int) -> int:
        return full if self.scale >= 1 else 1


class Part(NamedTuple):
    """A part, by name; `seconds` are the most that it may take, of a GPU such as an H100."""

    name: str
    seconds: float
    run: Callable[[Options], Iterator[Row]]


def parts_of(options: Options) -> list[Part]:
    """All parts: what later ones stand on first, and graphs that may take all the time that is left last."""
    sizes = [Part(f"solve-{_short(edges)}", 25 + edges / 1e9 * 110, partial(solve, edges)) for edges in options.edges]
    large = [edges > _LARGE for edges in options.edges]
    return [
        Part("device", 90, device),
        *(part for part, last in zip(sizes, large, strict=True) if not last),
        Part("hubs", 40, hubs),
        Part("agreement", 60, agreement),
        Part("lookups", 60, lookups),
        Part("steps", 60, steps),
        Part("training", 60, training),
        Part("cugraph", 60, cugraph),
        *(part for part, last in zip(sizes, large, strict=True) if last),
    ]


def _short(edges: int) -> str:
    return f"{edges:.0e}".replace("e+0", "e")


def device(options: Options) -> Iterator[Row]:
    """What the device is, what a copy moves a second, and how long every unit of kernels takes to compile and load."""
    from baco_gpu.cuda import loader
    from baco_gpu.cuda.plan import Limits

    backend, meter = _solver(options)
    with backend.at_work():
        free, total = backend.xp.cuda.runtime.memGetInfo()
        yield {"case": meter.device, "memory_gib": total / 2**30, "free_gib": free / 2**30}
        yield {"case": "a copy", "bytes_a_second": meter.copy_bandwidth()}
        kernels, began = loader.load(Limits()), time.perf_counter()
        for number, unit in enumerate(loader.units()):
            started = time.perf_counter()
            kernels[unit.names[0]]
            yield {
                "case": f"unit {number}: {unit.source}",
                "kernels": len(unit.names),
                "first": unit.names[0],
                "seconds_to_compile_and_load": time.perf_counter() - started,
            }
        yield {"case": "all units", "seconds_to_compile_and_load": time.perf_counter() - began}


def solve(edges: int, options: Options) -> Iterator[Row]:
    """Five sweeps alone, and all with merging to a quarter: by phase, beside a copy's time and the memory planned."""
    from baco_gpu.benchmarking.solving import SOLVERS, run_solver, summarize
    from benchmarks.device_graphs import planted

    backend, meter = _solver(options)
    repeats = options.repeats(5 if edges < 10**7 else 3 if edges < 10**8 else 2 if edges < 10**9 else 1)
    warming = int(repeats > 2)
    with backend.at_work():
        bandwidth, started = meter.copy_bandwidth(), time.perf_counter()
        graph = planted(backend.xp, edges, options.seed)
        yield {"case": "graph", "edges": graph.num_edges, "seconds": time.perf_counter() - started}
        for solver in SOLVERS:
            meter.forget_peak()
            runs = [run_solver(graph, solver, backend, meter, options.seed) for _ in range(warming + repeats)]
            row = summarize(graph, runs[warming:], bandwidth, meter.peak_bytes())
            sweeping = row["floor_seconds"] / row["share_of_copy"]
            yield {"case": solver, **row, "times_the_floor": sweeping / row["floor_seconds"]}


def hubs(options: Options) -> Iterator[Row]:
    """Sweeps where one item has a million users, beside 10,000 items of 2,000."""
    from baco_gpu import BipartiteGraph
    from baco_gpu.benchmarking.solving import run_solver, summarize

    backend, meter = _solver(options)
    users, others, degree = options.size(1e6, 100), options.size(1e4, 10), min(2000, options.size(1e6, 100) // 4)
    rng = np.random.default_rng(options.seed)
    chosen = rng.integers(0, users, (others, degree))
    graph = BipartiteGraph.from_edges(
        np.concatenate([np.arange(users), chosen.ravel()]),
        np.concatenate([np.zeros(users, np.int64), np.repeat(np.arange(1, others + 1), degree)]),
        duplicates="drop",
    )
    with backend.at_work():
        bandwidth = meter.copy_bandwidth()
        meter.forget_peak()
        runs = [run_solver(graph, "sweeps", backend, meter, options.seed) for _ in range(1 + options.repeats(2))]
        yield {
            "case": "sweeps",
            "largest_degree": int(graph.item_degrees.max()),
            **summarize(graph, runs[1:], bandwidth, meter.peak_bytes()),
        }


def agreement(options: Options) -> Iterator[Row]:
    """The labels of the backend and of the CPU, which must be the same."""
    from baco_gpu import BalancedCoclustering
    from benchmarks.device_graphs import planted

    backend, _ = _solver(options)
    with backend.at_work():
        graph = planted(backend.xp, min(options.edges), options.seed)
    for solver in ("multilevel", "paper"):
        goal = {"gamma": 1.0, "budget": None} if solver == "paper" else {"budget": 0.25}
        found = [
            BalancedCoclustering(solver=solver, backend=name, random_state=options.seed, **goal).fit(graph).result_
            for name in (options.backend, "cpu")
        ]
        same = found[0].labels_sha256 == found[1].labels_sha256
        yield {"case": solver, "edges": graph.num_edges, "the_same": same, "rows": found[0].codebook_rows}
        if not same:
            raise AssertionError(f"labels of solver={solver!r} are not those of the CPU")


def lookups(options: Options) -> Iterator[Row]:
    """A codebook beside `nn.Embedding`: lookups, with gradients, and steps of dense Adam (`benchmarks.codebook`)."""
    from benchmarks import codebook

    settings = argparse.Namespace(
        device=options.device, dtype="float32", dim=64, share=0.25, repeats=options.repeats(11), cuda_graph=False
    )
    batches = [options.size(batch, 8) for batch in (8192, 65_536, 1e6)]
    for row in codebook.measure(options.size(4e6, 100), batches, settings):
        yield {"case": f"{row['candidate']}, {row.get('phase', '')}, {row.get('batch', '')}", **row}


def steps(options: Options) -> Iterator[Row]:
    """A step beside SparseAdam's and FBGEMM's, where that is installed (`benchmarks.memory`)."""
    import torch

    from benchmarks import memory

    size = memory.Size(options.size(4e6, 100), 64, options.size(65_536, 8))
    for name in memory.available():
        found = memory.measure(name, size, torch.device(options.device), options.repeats(15))
        yield {"case": name, **size._asdict(), **found}


def training(options: Options) -> Iterator[Row]:
    """MF and LightGCN beside torch_geometric's, where that is installed (`benchmarks.training`)."""
    from baco_gpu import SplitInteractions
    from baco_gpu.data.synthetic import planted_coclusters
    from benchmarks import training as benchmark

    users, items = options.size(1e5, 60), options.size(5e4, 40)
    train, _, _ = planted_coclusters(users, items, 20 * users, max(users // 400, 1), seed=options.seed)
    few = train.take(np.arange(1))
    for cuda_graph in (False, True) if options.device.startswith("cuda") else (False,):
        settings = argparse.Namespace(
            data=argparse.Namespace(stem="planted"),
            device=options.device,
            batch_size=options.size(8192, 16),
            dim=64,
            steps=options.repeats(20),
            repeats=options.repeats(5),
            losses="bpr",
            only="",
            clock="wall",
            cuda_graph=cuda_graph,
        )
        for row in benchmark.measure(SplitInteractions(train, few, few), settings):
            case = f"{row['candidate']}, {row['table']}" + ", recorded" * cuda_graph
            yield {"case": case, "seconds_an_epoch": len(train) / row["triples_per_second"], **row}


def cugraph(options: Options) -> Iterator[Row]:
    """Louvain and Leiden of cuGraph on the same graphs, up to 1e8 edges, loading not counted."""
    from baco_gpu.methods.cugraph_modularity import MAX_LEVEL, THETA, THRESHOLD
    from benchmarks.device_graphs import planted

    backend, meter = _solver(options)
    with backend.at_work():
        for edges in (size for size in options.edges if size <= _LARGE):
            graph = planted(backend.xp, edges, options.seed)
            network = graph.to_pylibcugraph()  # or says what is missing
            from pylibcugraph import ResourceHandle, leiden, louvain

            handle = ResourceHandle()
            for name, run in (
                ("Louvain", partial(louvain, handle, network, MAX_LEVEL, THRESHOLD, 1.0, False)),
                ("Leiden", partial(leiden, handle, options.seed, network, MAX_LEVEL, 1.0, THETA, False)),
            ):
                started = time.perf_counter()
                run()
                meter.synchronize()
                seconds = time.perf_counter() - started
                yield {
                    "case": f"{name}, {_short(edges)} edges",
                    "edges": graph.num_edges,
                    "seconds": seconds,
                    "edges_a_second": graph.num_edges / seconds,
                }


def _solver(options: Options) -> tuple[Any, Any]:
    """The backend and what measures its device, by copies as large as the scale allows."""
    from baco_gpu.benchmarking.solving import meter_of
    from baco_gpu.clustering.backends import get_backend

    backend = get_backend(options.backend)
    meter = meter_of(backend)
    meter.copy_bytes = options.size(1 << 30, 1 << 16)
    return backend, meter
