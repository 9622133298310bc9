"""The solver beside Louvain, and networkit's PLM where that is installed: in turns, in one process, on one thread.

    python -m benchmarks.solving beauty gowalla 1e6 8e6 --out benchmarks/results/solving.csv

A data set is one of those with a goal, read from --data, or a number of edges for a planted graph, which is solved to a
quarter of its rows at the default gamma. All solvers work at the same resolution.
They take turns, so that a busy moment of the machine meets them all; the ratio is that of the medians. Seconds are of
processor time by default, which other work on the machine changes less. Every Q is Barber's bipartite modularity at
that resolution, by the same code; the peers have no budget, and end at other numbers of rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.solve.cocluster import default_gamma
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.readers import load_interactions
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.modularity import louvain
from benchmarks.clustering import barber
from benchmarks.machine import describe_machine, write_rows

Labels = tuple[np.ndarray, np.ndarray]


class Goal(NamedTuple):
    """A number of rows, a gamma, and how many times as fast as Louvain and PLM a solve is to be."""

    rows: int
    gamma: float
    times_louvain: float
    times_plm: float


GOALS = {"beauty": Goal(7_947, 181.1, 5.0, 3.0), "gowalla": Goal(11_467, 196.3, 8.0, 4.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET", help=f"{', '.join(GOALS)}, or a number of edges")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BACO_DATA", ".")), help="of the .npz sets")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--wall", action="store_true", help="seconds of the clock in place of the processor's")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file, too")
    arguments = parser.parse_args()
    numba.set_num_threads(1)
    clock = time.perf_counter if arguments.wall else time.process_time
    rows = []
    for name in arguments.sets:
        graph, goal = graph_of(name, arguments.data)
        rows += compare(name, graph, goal, arguments.repeats, clock)
    if arguments.out:
        write_rows(arguments.out, rows)


def graph_of(name: str, data: Path) -> tuple[BipartiteGraph, Goal]:
    """A set of the folder `data` and its goal, or a planted graph of so many edges."""
    if name not in GOALS:
        return planted(int(float(name)))
    return BipartiteGraph.from_interactions(load_interactions(data / f"{name}.npz")), GOALS[name]


def planted(num_edges: int) -> tuple[BipartiteGraph, Goal]:
    """The graphs of `baco bench`, without a goal."""
    nodes = num_edges // 14
    interactions, _, _ = planted_coclusters(nodes * 2 // 3, nodes // 3, num_edges, max(nodes // 60, 1), noise=0.1)
    graph = BipartiteGraph.from_interactions(interactions)
    rows = round((graph.num_users + graph.num_items) / 4)
    return graph, Goal(rows, default_gamma(graph, rows, "degree"), 0.0, 0.0)


def compare(
    name: str, graph: BipartiteGraph, goal: Goal, repeats: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """A row for each solver, the first of them ours; each has run once before."""
    solvers: dict[str, Callable[[], Labels]] = {
        "ours": ours(graph, goal),
        "louvain (scikit-network)": lambda: louvain(graph, goal.gamma, 0)[:2],
    }
    if importlib.util.find_spec("networkit") is None:
        print("networkit is not installed: its PLM is left out", flush=True)
    else:
        solvers["PLM (networkit)"] = plm(graph, goal.gamma)
    found = {solver: call() for solver, call in solvers.items()}
    seconds: dict[str, list[float]] = {solver: [] for solver in solvers}
    for _ in range(repeats):
        for solver, call in solvers.items():
            started = clock()
            call()
            seconds[solver].append(clock() - started)
    wanted = dict(zip(solvers, (1.0, goal.times_louvain, goal.times_plm), strict=False))
    medians = {solver: statistics.median(values) for solver, values in seconds.items()}
    rows: list[dict[str, object]] = []
    for solver, (users, items) in found.items():
        row: dict[str, object] = {
            "set": name,
            "edges": graph.num_edges,
            "gamma": f"{goal.gamma:.4g}",
            "solver": solver,
            "rows": len(np.unique(users)) + len(np.unique(items)),
            "objective": f"{barber(graph, users, items, goal.gamma):.1f}",
            "median_seconds": f"{medians[solver]:.4f}",
            "min_seconds": f"{min(seconds[solver]):.4f}",
            "times_ours": f"{medians[solver] / medians['ours']:.2f}",
            "goal_times_ours": wanted[solver] or "",
            "repeats": repeats,
            "load": f"{os.getloadavg()[0]:.1f}",
        }
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append({**row, **describe_machine()})
    return rows


def ours(graph: BipartiteGraph, goal: Goal) -> Callable[[], Labels]:
    """The solve of a fit, its trace of Q included, from a graph that is loaded."""
    backend, weights = get_backend("cpu"), integer_weights(graph, "degree")
    problem, penalty = backend.load(graph, weights), goal.gamma * weights.penalty_per_gamma

    def solve() -> Labels:
        partition = multilevel(
            *(backend, problem, penalty, goal.rows),
            seed=0,
            schedule=Schedule(),
            observe=lambda stage, state: objective(backend, state.within, state.volumes, penalty, weights.unit),
        )
        users, items = compact(backend, partition).labels
        return users, items

    return solve


def plm(graph: BipartiteGraph, gamma: float) -> Callable[[], Labels]:
    """Networkit's parallel Louvain, on one thread. It knows one kind of nodes: its penalty of a cluster of volume V is
    that of a bipartite one whose sides have V / 2 each, at the same resolution."""
    import networkit

    networkit.setNumberOfThreads(1)
    users = np.repeat(np.arange(graph.num_users), graph.user_degrees)
    items = graph.num_users + graph.csr.neighbors.astype(users.dtype)
    together = networkit.GraphFromCoo((users, items), n=graph.num_users + graph.num_items)

    def solve() -> Labels:
        found = networkit.community.PLM(together, gamma=gamma).run().getPartition()
        labels = np.array(found.getVector())
        return labels[: graph.num_users], labels[graph.num_users :]

    return solve


if __name__ == "__main__":
    main()
