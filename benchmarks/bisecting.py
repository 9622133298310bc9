"""The solver "bisecting" stage by stage beside "multilevel" at the same budget, in turns of one run.

    python -m benchmarks.bisecting DATA [DATA ...] --out benchmarks/results/bisecting.csv

Seconds are of the CPU, the least of the repeats after a warm-up, so that other work on the machine counts little.
`variance_left` is what the two rows an id leave of the spectral rows' variance with the codebook that is best for them,
the mean of both sides.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import numba
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import cg

from baco_gpu.clustering.bisecting.row_pairs import paired_rows
from baco_gpu.clustering.bisecting.row_tree import RowTree, SideClusters
from baco_gpu.clustering.bisecting.spectral_rows import spectral_rows
from baco_gpu.clustering.result import NO_LABEL, Assignment
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.readers import load_split
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from benchmarks.machine import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--budget", type=float, default=0.25)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for data in arguments.data:
        graph = BipartiteGraph.from_interactions(load_split(data, seed=0).train)
        rows.append({"data": Path(data).stem, **compare(graph, arguments.budget, arguments.repeats)})
        print(rows[-1], flush=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def compare(graph: BipartiteGraph, budget: float, repeats: int) -> dict[str, object]:
    result = BalancedCoclustering(budget, solver="bisecting").fit(graph).result_
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        started = [time.process_time()]
        sides = spectral_rows(graph, integer_weights(graph), 0)
        started.append(time.process_time())
        clusters = RowTree(sides, result.codebook_rows).cut(result.codebook_rows)
        started.append(time.process_time())
        pairs = [paired_rows(side) for side in clusters]
        started.append(time.process_time())
        for stage, taken in zip(("embedding", "tree", "pairs"), np.diff(started), strict=True):
            seconds[stage].append(taken)
        for solver in ("bisecting", "multilevel"):
            before = time.process_time()
            BalancedCoclustering(budget, solver=solver).fit(graph)
            seconds[solver].append(time.process_time() - before)
    least = {stage: min(taken[1:]) for stage, taken in seconds.items()}
    left = [variance_left(*side) for side in zip(clusters, pairs, strict=True)]
    return {
        "edges": graph.num_edges,
        "rows": result.codebook_rows,
        **{f"{stage}_seconds": f"{taken:.3f}" for stage, taken in least.items()},
        "times_multilevel": f"{least['bisecting'] / least['multilevel']:.1f}",
        "variance_left": f"{np.mean(left):.5f}",
        "repeats": repeats,
        "threads": numba.get_num_threads(),
        **describe_machine(),
    }


def variance_left(side: SideClusters, pairs: Assignment) -> float:
    """Of the variance of a side's rows, what codebook rows, or the means of two, leave, by weighted least squares.

    Labels may be of both sides where there are no second ones.
    """
    rows, weights, nodes = side.rows.astype(float), side.weights, np.arange(len(side.rows))
    first = np.unique(pairs.labels, return_inverse=True)[1]
    second = first
    if pairs.secondary is not None:
        second = np.where(pairs.secondary == NO_LABEL, first, pairs.secondary)
    entries = np.full(2 * len(nodes), 0.5), (np.tile(nodes, 2), np.concatenate([first, second]))
    mixing = scipy.sparse.csr_array(entries, shape=(len(nodes), pairs.rows))
    weighted = (mixing * weights[:, None]).T
    square, scale = (weighted @ mixing).tocsr(), scipy.sparse.diags_array(1 / np.maximum(weighted.sum(axis=1), 1e-9))
    codebook = np.stack([cg(square, column, rtol=1e-6, M=scale)[0] for column in (weighted @ rows).T], axis=1)
    missed = weights @ ((rows - mixing @ codebook) ** 2).sum(axis=1)
    return float(missed / (weights @ ((rows - np.average(rows, axis=0, weights=weights)) ** 2).sum(axis=1)))


if __name__ == "__main__":
    main()
