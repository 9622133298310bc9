"""Clustering against scikit-network's Louvain, at the same number of codebook rows and the same resolution, in one run.

    python -m benchmarks.clustering DATA [DATA ...] --out benchmarks/results/clustering.csv

Louvain is tuned to the budget first (untimed). Then both solvers run in turns at that resolution, so that a busy moment
of the machine meets both; medians of the repeats count, after one warm-up each. Both objectives are Barber's bipartite
modularity at Louvain's resolution, computed by the same code. The traffic floor of our solver is what one visit to
every edge must move (4 bytes of neighbor id, 4 of label, in both directions) for every sweep, over the measured
bandwidth of a copy on one core.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

from baco_gpu.benchmarking.meter import HostMeter
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.readers import load_interactions
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.modularity import louvain, louvain_search
from benchmarks.machine import describe_machine

_BYTES_A_VISIT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--budget-rows", type=int, nargs="*", default=[], help="one a data set; default a quarter")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    bandwidth = HostMeter().copy_bandwidth()
    for position, data in enumerate(arguments.data):
        graph = BipartiteGraph.from_interactions(load_interactions(data))
        budget = (graph.num_users + graph.num_items) // 4
        if arguments.budget_rows:
            budget = arguments.budget_rows[position]
        rows += compare(Path(data).stem, graph, budget, arguments.repeats, arguments.seed, bandwidth)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def compare(
    name: str, graph: BipartiteGraph, budget: int, repeats: int, seed: int, bandwidth: float
) -> list[dict[str, object]]:
    tuned = louvain_search(graph, seed).find(budget)
    gamma = tuned.knob
    common = {"random_state": seed, "secondary": "none"}
    solvers: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "louvain (scikit-network)": lambda: louvain(graph, gamma, seed)[:2],
        "ours": lambda: labels(BalancedCoclustering(budget=tuned.rows, gamma=gamma, **common), graph),
        "ours, levels=1": lambda: labels(
            BalancedCoclustering(budget=tuned.rows, gamma=gamma, levels=1, **common), graph
        ),
        "ours, levels=1, refinements=1": lambda: labels(
            BalancedCoclustering(budget=tuned.rows, gamma=gamma, levels=1, refinements=1, **common), graph
        ),
        "ours, default gamma": lambda: labels(BalancedCoclustering(budget=tuned.rows, **common), graph),
        "paper's sweeps": lambda: labels(
            BalancedCoclustering(budget=None, gamma=gamma, solver="paper", weights="degree", **common), graph
        ),
    }
    found = {solver: call() for solver, call in solvers.items()}
    times: dict[str, list[float]] = {solver: [] for solver in solvers}
    for _ in range(repeats):
        for solver, call in solvers.items():
            started = time.perf_counter()
            call()
            times[solver].append(time.perf_counter() - started)
    medians = {solver: statistics.median(values) for solver, values in times.items()}
    louvain_seconds = medians["louvain (scikit-network)"]
    rows: list[dict[str, object]] = []
    for solver, (users, items) in found.items():
        row = {
            "data": name,
            "edges": graph.num_edges,
            "solver": solver,
            "rows": len(np.unique(users)) + len(np.unique(items)),
            "resolution": f"{gamma:.4g}",
            "objective": f"{barber(graph, users, items, gamma):.1f}",
            "largest_user_cluster": int(np.bincount(users).max()),
            "median_seconds": f"{medians[solver]:.4f}",
            "min_seconds": f"{min(times[solver]):.4f}",
            "max_seconds": f"{max(times[solver]):.4f}",
            "times_faster_than_louvain": f"{louvain_seconds / medians[solver]:.2f}",
            "floor_seconds_a_sweep": f"{2 * graph.num_edges * _BYTES_A_VISIT / bandwidth:.5f}",
            "copy_gb_a_second": f"{bandwidth / 1e9:.1f}",
            "repeats": repeats,
            "threads": numba.get_num_threads(),
            **describe_machine(),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def labels(estimator: BalancedCoclustering, graph: BipartiteGraph) -> tuple[np.ndarray, np.ndarray]:
    estimator.fit(graph)
    return estimator.row_labels_, estimator.column_labels_


def barber(graph: BipartiteGraph, users: np.ndarray, items: np.ndarray, gamma: float) -> float:
    """Q with degree weights, of labels in any space."""
    backend = get_backend("cpu")
    weights = integer_weights(graph, "degree")
    problem = backend.load(graph, weights)
    pair = (users.astype(np.int32), items.astype(np.int32))
    volumes = backend.volumes(problem, pair, int(max(users.max(), items.max())) + 1)
    within = backend.weight_within(problem, pair)
    return objective(backend, within, volumes, gamma * weights.penalty_per_gamma, weights.unit)


if __name__ == "__main__":
    main()
