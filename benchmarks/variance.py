"""What the balance term is good for: the variance of spectral rows within co-clusters, without it, with it, and when
variance itself is made small.

    python -m benchmarks.variance DATA [DATA ...] --out benchmarks/results/variance.csv

All have a quarter of the table's rows and one row an id. `left` is the share of the variance of the spectral rows,
weighted by degree, that is left within clusters; gamma 0 is without the balance term.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from baco_gpu.clustering.bisecting.row_tree import SideClusters
from baco_gpu.clustering.bisecting.spectral_rows import spectral_rows
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.readers import load_split
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from benchmarks.bisecting import variance_left
from benchmarks.machine import describe_machine

SOLVERS = (
    *({"solver": "multilevel", "gamma": gamma} for gamma in (0, 1, None, 40, 120, 400)),
    {"solver": "paper"},
    {"solver": "bisecting"},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.out.open("w", newline="") as file:
        writer = None
        for data in arguments.data:
            graph = BipartiteGraph.from_interactions(load_split(data, seed=0).train)
            for parameters in SOLVERS:
                row = {"data": Path(data).stem, **measured(graph, parameters), **describe_machine()}
                print(row, flush=True)
                if writer is None:
                    writer = csv.DictWriter(file, row)
                    writer.writeheader()
                writer.writerow(row)


def measured(graph: BipartiteGraph, parameters: dict[str, object]) -> dict[str, object]:
    rows = (graph.num_users + graph.num_items) // 4
    result = BalancedCoclustering(rows, secondary="none", **parameters).fit(graph).result_
    row: dict[str, object] = {"solver": parameters["solver"], "gamma": f"{result.gamma:.3g}", "rows": rows}
    sides = spectral_rows(graph, integer_weights(graph), 0)
    for name, side, found in zip(("users", "items"), sides, (result.users, result.items), strict=True):
        row[f"{name}_rows"] = found.rows
        row[f"{name}_left"] = f"{variance_left(SideClusters(*side, found.labels), found):.3f}"
        row[f"{name}_largest"] = int(found.sizes(result.num_clusters).max())
    return row


if __name__ == "__main__":
    main()
