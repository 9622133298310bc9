"""The bytes that a solve on a device reads and writes, by phase and kernel, counted on kernels built for the CPU.

    PYTHONPATH=tests python -m benchmarks.device_bytes beauty gowalla 1e6 1e7 --out benchmarks/results/device-bytes.csv

A data set is one of those of `benchmarks.solving`, or a number of edges for a planted graph, which is solved to a
quarter of its rows. What counts, and how operations of CuPy do, is said in tests/cuda_host/meter.py. Needs g++.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.cuda.plan import Limits
from baco_gpu.graph.bipartite import BipartiteGraph
from benchmarks.machine import write_rows
from benchmarks.solving import GOALS, graph_of
from cuda_host.meter import Meter, metered_backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET", help=f"{', '.join(GOALS)}, or a number of edges")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BACO_DATA", ".")), help="of the .npz sets")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.sets:
        graph, goal = graph_of(name, arguments.data)
        rows += measure(name, graph, goal.rows, goal.gamma)
    if arguments.out:
        write_rows(arguments.out, rows)


def measure(name: str, graph: BipartiteGraph, rows: int, gamma: float) -> list[dict[str, object]]:
    """A row for every kernel and operation of every phase; prints the sums of the phases."""
    meter, weights = Meter(), integer_weights(graph)
    backend = metered_backend(meter, Limits())
    problem = backend.load(graph, weights)
    meter.end_phase("load")
    multilevel(
        *(backend, problem, gamma * weights.penalty_per_gamma, rows),
        seed=0,
        schedule=Schedule(),
        observe=lambda stage, partition: meter.end_phase(stage),
    )
    facts = {"graph": name, "edges": graph.num_edges, "nodes": graph.num_users + graph.num_items, "rows": rows}
    found: list[dict[str, object]] = []
    sums: dict[str, float] = {}
    for (phase, what), count in sorted(meter.counts.items()):
        an_edge = (count.read + count.written) / graph.num_edges
        sums[phase] = sums.get(phase, 0) + an_edge
        found.append({**facts, "phase": phase, "what": what, **count._asdict(), "bytes_an_edge": round(an_edge, 2)})
    print(name, ", ".join(f"{phase} {total:.0f}" for phase, total in sums.items()), "bytes an edge", flush=True)
    return found


if __name__ == "__main__":
    main()
