"""Clustering over ranks: seconds, bytes that come to a rank, and memory, beside one process with as many threads.

    python -m benchmarks.distributed --out benchmarks/results/distributed.csv
    python -m benchmarks.distributed --edges 1e6 --ranks 2 4

A planted graph is written to a file of arrays, from which every rank maps it and takes its share. Ranks are processes
of this machine over gloo, with one thread each. Memory is what a process had at most during the solve, less what it had
before its share, when a small graph had loaded all code. On a machine with other work to do, the seconds of processors
say more than those of the clock. What arrays should take at most is stated beforehand; malloc may keep more. Bytes are
those that come to a rank from others, the mean of the ranks, of the whole solve and of every sweep and round of
merging.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch.distributed as dist

from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.backends.distributed import DistributedBackend
from baco_gpu.clustering.backends.share import even_bounds, share_of
from baco_gpu.clustering.solve.cocluster import cocluster
from baco_gpu.clustering.solve.parameters import SolverParameters
from baco_gpu.clustering.solve.sweeps import NUM_BLOCKS
from baco_gpu.clustering.solve.weights import integer_edges
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.distributed.torch_ranks import TorchRanks
from baco_gpu.graph.arrays import Adjacency
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.progress import silent
from benchmarks.machine import describe_machine, write_rows

_PAUSE = 0.05  # seconds between looks at the memory
_BYTES_AN_EDGE, _BYTES_A_NODE = 28, 93
EDGES_A_NODE = 8  # of the planted graph, counted over both sides
ARRAYS = ("csr_offsets", "csr_neighbors", "csc_offsets", "csc_neighbors")


class TimedRanks(TorchRanks):
    """Ranks that know for how long they have waited for one another."""

    seconds = 0.0

    @contextmanager
    def _waiting(self):
        started = time.perf_counter()
        with super()._waiting():
            yield
        self.seconds += time.perf_counter() - started


class Metered(DistributedBackend):
    """A backend that notes the bytes that come with every sweep and every round of merging."""

    def __init__(self, own: CpuBackend, ranks: TimedRanks) -> None:
        super().__init__(own, ranks)
        self.events: list[dict[str, Any]] = []
        self._moves = 0
        self.ranks: TimedRanks

    def _note(self, stage: str, before: int, **more: Any) -> None:
        self.events.append({"stage": stage, **more, "bytes": self._received() - before})

    def _received(self) -> int:
        return sum(self.ranks.received.values())

    def move(self, *arguments: Any) -> None:
        before, totals = self._received(), arguments[-1].copy()
        super().move(*arguments)
        if self._moves % (2 * NUM_BLOCKS) == 0:
            self._note("sweep", self._received(), moved=0)
        self._moves += 1
        self.events[-1]["bytes"] += self._received() - before
        self.events[-1]["moved"] += int((arguments[-1] - totals)[1])

    def contract(self, problem: Any, partition: Any, **options: Any) -> Any:
        before = self._received()
        clusters = super().contract(problem, partition, **options)
        self._note("contraction", before, clusters=clusters.num_clusters)
        return clusters

    def contract_again(self, clusters: Any, relabel: Any, arrived: Any = None) -> Any:
        before = self._received()
        found = super().contract_again(clusters, relabel, arrived)
        self._note("merging", before, clusters=found.num_clusters)
        return found

    def best_partners(self, clusters: Any, penalty: float) -> Any:
        before = self._received()
        found = super().best_partners(clusters, penalty)
        self._note("partners", before, clusters=clusters.num_clusters)
        return found

    def second_best(self, *arguments: Any) -> Any:
        before = self._received()
        found = super().second_best(*arguments)
        self._note("secondary", before)
        return found


def solved(graph: Any, backend: Any) -> Any:
    """The result for a quarter of the rows, a single solve."""
    rows = (graph.num_users + graph.num_items) // 4
    settings = SolverParameters(budget=rows, secondary="users").check_parameters()
    return cocluster(graph, replace(settings, backend=backend), {}, silent)


def make_graph(edges: int, folder: Path) -> None:
    nodes = 2 * edges // EDGES_A_NODE
    interactions, *_ = planted_coclusters(3 * nodes // 4, nodes // 4, edges, max(nodes // 40, 1))
    graph = BipartiteGraph.from_interactions(interactions)
    arrays = (graph.csr.offsets, graph.csr.neighbors, graph.csc.offsets, graph.csc.neighbors)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)


def read_graph(folder: Path) -> BipartiteGraph:
    csr_offsets, csr, csc_offsets, csc = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    return BipartiteGraph(Adjacency(csr_offsets, csr, None), Adjacency(csc_offsets, csc, None))


def planned(edges: float, nodes: float, ranks: int) -> float:
    """The most bytes that the arrays of a rank should take, on the CPU with ids of four bytes and no weights.

    So many it takes while the graph of clusters is made: those of its edges, and those of all nodes.
    """
    return _BYTES_AN_EDGE * edges / ranks + _BYTES_A_NODE * nodes


def held() -> int:
    """Bytes of memory that are this process's own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Peak:
    """Samples of what the process holds, from a thread."""

    def __enter__(self) -> Peak:
        import threading

        self.most, self._over = held(), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(_PAUSE):
            self.most = max(self.most, held())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, held())


def measure(folder: Path, rank: int, size: int, repeats: int) -> dict[str, Any]:
    """One process of `size`, or with size 0 a plain one."""
    numba.set_num_threads(1 if size else int(os.environ["NUMBA_NUM_THREADS"]))
    small, _, _ = planted_coclusters(60, 40, 400, 4)
    warm_up = BipartiteGraph.from_interactions(small)
    edges = integer_edges(warm_up)
    # Of one thread its own seconds: neither what looks at the memory nor what waits for messages counts.
    work_clock = time.thread_time if numba.get_num_threads() == 1 else time.process_time
    if not size:
        solved(warm_up, CpuBackend())
        before, whole = held(), read_graph(folder)
        whole.checksum()
        with Peak() as peak:
            before_work = work_clock()
            runs = [_timed(lambda: solved(whole, CpuBackend())) for _ in range(repeats)]
            worked = [(work_clock() - before_work) / repeats] * repeats
        seconds = [took for took, _ in runs]
        return {"seconds": seconds, "worked": worked, "bytes": peak.most - before, "labels": runs[0][1].labels_sha256}
    store = dist.FileStore(str(folder / f"store-{size}"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=30))
    ranks = TimedRanks(dist.group.WORLD)
    share = share_of(warm_up, edges, rank, even_bounds(warm_up, size))
    solved(share, Metered(CpuBackend(), ranks))
    before, graph = held(), read_graph(folder)
    graph.checksum()
    share = share_of(graph, integer_edges(graph), rank, even_bounds(graph, size))
    del graph
    seconds, waited, worked = [], [], []
    with Peak() as peak:
        for _ in range(repeats):
            backend, ranks.seconds = Metered(CpuBackend(), ranks), 0.0
            ranks.table(0)
            before_work = work_clock()
            took, result = _timed(lambda: solved(share, backend))  # noqa: B023 - called at once
            seconds.append(took)
            worked.append(work_clock() - before_work)
            waited.append(ranks.seconds)
    speed = link(ranks)
    dist.destroy_process_group()
    return {
        "seconds": seconds,
        "waited": waited,
        "worked": worked,
        "bytes": peak.most - before,
        "labels": result.labels_sha256,
        "events": backend.events,
        "link": speed,
    }


def _timed(work: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def link(ranks: TorchRanks) -> dict[str, float]:
    """Seconds of an exchange of a few numbers, and bytes that come in a second when every rank sends 16 MiB to all."""
    few = min(_timed(lambda: ranks.table(1, 2))[0] for _ in range(20))
    block = np.zeros(1 << 21)
    many = min(_timed(lambda: ranks.gather(block, [len(block)] * ranks.size))[0] for _ in range(3))
    return {"latency": few, "rate": (ranks.size - 1) * block.nbytes / many}


def run(folder: Path, size: int, threads: int, repeats: int) -> list[dict[str, Any]]:
    """What every process measured."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.distributed", f"--folder={folder}", f"--repeats={repeats}"]
    processes = [
        subprocess.Popen([*command, f"--rank={rank}", f"--size={size}"], env=environment, stdout=subprocess.PIPE)
        for rank in range(max(size, 1))
    ]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    assert len({one["labels"] for one in found}) == 1, "ranks disagree"
    return found


def summary(size: int, threads: int, edges: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = np.median([max(one) for one in zip(*(one["seconds"] for one in found), strict=True)])
    row = {
        "edges": edges,
        "nodes": 2 * edges // EDGES_A_NODE,
        "ranks": size or "one process",
        "threads": threads,
        "seconds": round(float(seconds), 2),
        "processor_seconds_a_rank": round(float(np.mean([np.median(one["worked"]) for one in found])), 2),
        "megabytes_a_rank": round(max(one["bytes"] for one in found) / 1e6, 1),
    }
    if size:
        row["megabytes_planned"] = round(planned(edges, row["nodes"], size) / 1e6, 1)
        row["seconds_waiting"] = round(float(np.mean([np.median(one["waited"]) for one in found])), 2)
        row["latency_microseconds"] = round(1e6 * found[0]["link"]["latency"], 1)
        row["megabytes_a_second"] = round(found[0]["link"]["rate"] / 1e6)
        for stage in ("sweep", "contraction", "merging", "partners", "secondary"):
            total = sum(event["bytes"] for one in found for event in one["events"] if event["stage"] == stage)
            row[f"megabytes_{stage}"] = round(total / size / 1e6, 3)
        row["exchanges"] = sum(event["stage"] in ("merging", "contraction") for event in found[0]["events"])
    return {**row, "labels": found[0]["labels"][:12], **describe_machine()}


def stages(size: int, edges: int, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every sweep and every round of merging, in their order; the bytes are the mean of the ranks."""
    rows = []
    for number, events in enumerate(zip(*(one["events"] for one in found), strict=True)):
        first = events[0]
        rows.append(
            {
                "edges": edges,
                "ranks": size,
                "number": number,
                "stage": first["stage"],
                "moved": first.get("moved", ""),
                "clusters": first.get("clusters", ""),
                "bytes_a_rank": round(sum(event["bytes"] for event in events) / size),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=float, default=8e6)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file, and those of stages beside it")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder, arguments.rank, arguments.size, arguments.repeats)))
        return
    edges = int(arguments.edges)
    rows, details = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_graph(edges, folder)
        for size in arguments.ranks:
            for ranks, threads in ((0, size), (size, 1)):
                found = run(folder, ranks, threads, arguments.repeats)
                rows.append(summary(ranks, threads, edges, found))
                print(rows[-1], flush=True)
                if ranks:
                    details += stages(ranks, edges, found)
                    print(*details[-len(found[0]["events"]) :], sep="\n", flush=True)
    assert len({row["labels"] for row in rows}) == 1, "not the labels of one process"
    if arguments.out:
        write_rows(arguments.out, rows)
        write_rows(arguments.out.with_stem(f"{arguments.out.stem}-stages"), details)


if __name__ == "__main__":
    main()
