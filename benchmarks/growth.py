"""Growth: seconds and peak memory of building, clustering and secondary clusters on planted graphs of growing size.

    python -m benchmarks.growth --edges 1e6 4e6 16e6 64e6 --out benchmarks/results/growth.csv

Each size runs in a process of its own, so that the peak of its resident memory is its own. The graph is generated with
power-law degrees and a tenth of noise, written nowhere; generation is not timed as part of the work. The solver runs
twice, and the second time counts: the first one compiles, or reads compiled code from the disk.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import describe_machine

_EDGES_A_NODE = 14
_NODES_A_CLUSTER = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=float, nargs="+", default=[1e6, 4e6, 16e6, 64e6])
    parser.add_argument("--budget", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", action="store_true", help="measure one size in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(int(arguments.edges[0]), arguments.budget, arguments.seed)))
        return
    rows = []
    for edges in arguments.edges:
        command = [sys.executable, "-m", "benchmarks.growth", "--one", "--edges", str(edges)]
        command += ["--budget", str(arguments.budget), "--seed", str(arguments.seed)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append({**json.loads(output), **describe_machine()})
        print(rows[-1], flush=True)
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def measure(num_edges: int, budget: float, seed: int) -> dict[str, object]:
    import numba

    from baco_gpu.data.synthetic import planted_coclusters
    from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
    from baco_gpu.graph.bipartite import BipartiteGraph

    num_nodes = num_edges // _EDGES_A_NODE
    num_users, num_items = num_nodes * 2 // 3, num_nodes // 3
    started = time.perf_counter()
    interactions, _, _ = planted_coclusters(
        num_users, num_items, num_edges, max(num_nodes // _NODES_A_CLUSTER, 1), noise=0.1, seed=seed
    )
    generating = time.perf_counter() - started
    after_generating = peak_gib()
    started = time.perf_counter()
    graph = BipartiteGraph.from_interactions(interactions)
    building = time.perf_counter() - started
    after_building = peak_gib()
    del interactions
    estimator = BalancedCoclustering(budget=budget, random_state=seed)
    for _ in range(2):
        result = estimator.fit(graph).result_
    sweeps = estimator.sweeps + estimator.levels * estimator.refinements
    seconds = result.seconds
    return {
        "edges": graph.num_edges,
        "users": num_users,
        "items": num_items,
        "rows": result.codebook_rows,
        "gamma": f"{result.gamma:.4g}",
        "seconds_generating": f"{generating:.2f}",
        "seconds_building": f"{building:.2f}",
        "seconds_solving": f"{seconds['solve']:.2f}",
        "seconds_secondary": f"{seconds['secondary']:.2f}",
        "microseconds_an_edge": f"{1e6 * (seconds['solve'] + seconds['secondary']) / graph.num_edges:.3f}",
        # Sweeps planned; merging and contraction visit edges too, and are left out of this count.
        "edge_visits_a_second": f"{2 * sweeps * graph.num_edges / seconds['solve']:.3g}",
        "graph_gib": f"{graph.nbytes / 2**30:.2f}",
        "peak_gib_generating": f"{after_generating:.2f}",
        "peak_gib_building": f"{after_building:.2f}",
        "peak_gib": f"{peak_gib():.2f}",
        "threads": numba.get_num_threads(),
    }


def peak_gib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
