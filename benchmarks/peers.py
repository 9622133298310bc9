"""The methods compared with, as we call them, beside their own libraries as these document it.

    python -m benchmarks.peers DATA [DATA ...] --out benchmarks/results/peers.csv

A row a call: how many clusters it finds, what they are worth by the method's own measure, computed by the same code
for all calls of a method, and the seconds it took.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import infomap
import numpy as np
import pymetis
import scipy.sparse
from sklearn.cluster import SpectralBiclustering, SpectralCoclustering
from sknetwork.clustering import Leiden, Louvain

from baco_gpu.data.readers import load_split
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.machine import describe_versions
from baco_gpu.methods.common.sides import Sides, deal_rows
from baco_gpu.methods.common.sparse import one_hot, row_best
from baco_gpu.methods.infomap import infomap_communities
from baco_gpu.methods.itcc import information_theoretic
from baco_gpu.methods.legcf import metis_parts
from baco_gpu.methods.modularity import leiden, louvain
from baco_gpu.methods.spectral_bi import spectral_biclustering
from baco_gpu.methods.spectral_co import spectral_coclustering
from benchmarks.machine import describe_machine

SEED = 0
TIGHT = 1e-9

Labels = tuple[np.ndarray, np.ndarray]
Call = tuple[str, Callable[[], Labels]]
Measure = Callable[[Labels], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--clusters", type=int, default=300, help="that spectral methods are asked for")
    parser.add_argument("--parts", type=float, default=0.25, help="of METIS and of ITCC, as a share of all nodes")
    parser.add_argument("--methods", help="comma-separated; all where not given")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    about = describe_machine() | {name: value for name, value in describe_versions().items() if name != "baco_gpu"}
    with arguments.out.open("w", newline="") as file:
        writer = None
        for data in arguments.data:
            graph = BipartiteGraph.from_interactions(load_split(data).train)
            parts = round(arguments.parts * sum(graph.to_scipy().shape))
            for row in compare(graph, arguments.clusters, parts, arguments.methods):
                row = {"data": Path(data).stem, **row, **about}
                writer = writer or csv.DictWriter(file, row)
                if not file.tell():
                    writer.writeheader()
                writer.writerow(row)
                file.flush()


def compare(graph: BipartiteGraph, clusters: int, parts: int, methods: str | None) -> Iterator[dict[str, object]]:
    for method, name, measure, calls in (
        *modularity(graph),
        description(graph),
        cut(graph, parts),
        *spectral(graph, clusters),
        coclustering(graph, parts),
    ):
        if methods is not None and method not in methods.split(","):
            continue
        for call, solve in calls:
            start = time.perf_counter()
            users, items = solve()
            seconds = time.perf_counter() - start
            yield {
                "method": method,
                "call": call,
                "clusters": len(np.union1d(users, items)),
                "rows": len(np.unique(users)) + len(np.unique(items)),
                "measure": name,
                "value": f"{measure((users, items)):.4f}",
                "seconds": f"{seconds:.2f}",
            }


def modularity(graph: BipartiteGraph) -> Iterator[tuple[str, str, Measure, list[Call]]]:
    """Louvain and Leiden at a resolution of 1, by Barber's modularity."""
    matrix = scipy.sparse.csr_matrix(graph.to_scipy(), dtype=float)
    degrees = [np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)]
    total = matrix.sum()

    def measure(labels: Labels) -> float:
        count = 1 + max(side.max() for side in labels)
        shares = [np.bincount(side, own, count) / total for side, own in zip(labels, degrees, strict=True)]
        edges = matrix.tocoo()
        within = edges.data[labels[0][edges.row] == labels[1][edges.col]].sum() / total
        return float(within - shares[0] @ shares[1])

    def library(solver: type, **options: float) -> Labels:
        model = solver(**options).fit(matrix, force_bipartite=True)
        return model.labels_row_, model.labels_col_

    for name, ours, solver in (("louvain", louvain, Louvain), ("leiden", leiden, Leiden)):
        yield (
            name,
            "bipartite modularity",
            measure,
            [
                ("ours", lambda ours=ours: ours(graph, 1.0, SEED)[:2]),
                ("as documented", lambda solver=solver: library(solver)),
                (
                    "tolerances of 1e-9",
                    lambda solver=solver: library(solver, tol_optimization=TIGHT, tol_aggregation=TIGHT),
                ),
            ],
        )


def description(graph: BipartiteGraph) -> tuple[str, str, Measure, list[Call]]:
    """infomap, by bits a step of a walk of which all visits are described."""
    edges = graph.to_scipy().tocoo()
    links = list(zip(edges.row.tolist(), (edges.col + graph.num_users).tolist(), edges.data.tolist(), strict=True))

    def library(**options: int) -> Labels:
        network = infomap.Network()
        if "bipartite_start_id" in options:
            network.bipartite_start_id = options.pop("bipartite_start_id")
        for link in links:
            network.add_link(*link)
        modules = infomap.run(network, two_level=True, seed=123, **options).modules()
        labels = np.zeros(graph.num_users + graph.num_items, dtype=int)
        labels[list(modules)] = list(modules.values())
        return labels[: graph.num_users], labels[graph.num_users :]

    def measure(labels: Labels) -> float:
        model = infomap.Infomap(two_level=True, silent=True, no_infomap=True)
        model.add_links(links)
        linked = np.unique(np.asarray(links)[:, :2].astype(int)).tolist()
        both = np.concatenate(labels)
        return float(model.run(initial_partition={node: int(both[node]) for node in linked}).codelength)

    calls: list[Call] = [
        ("ours", lambda: of(infomap_communities(graph, SEED)(0))),
        ("as documented for a graph", lambda: library(num_trials=10)),
        ("one trial", lambda: library()),
        ("items declared", lambda: library(num_trials=10, bipartite_start_id=graph.num_users)),
    ]
    return "infomap", "bits a step", measure, calls


def cut(graph: BipartiteGraph, parts: int) -> tuple[str, str, Measure, list[Call]]:
    """METIS, by the share of edges between parts."""
    edges = graph.to_scipy().tocoo()

    def measure(labels: Labels) -> float:
        return float((labels[0][edges.row] != labels[1][edges.col]).mean())

    def library() -> Labels:
        matrix = graph.to_scipy()
        both = scipy.sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
        adjacency = pymetis.CSRAdjacency(both.indptr.astype(np.int64), both.indices.astype(np.int64))
        labels = np.array(pymetis.part_graph(parts, adjacency=adjacency).vertex_part)
        return labels[: graph.num_users], labels[graph.num_users :]

    calls: list[Call] = [
        (f"ours, {parts} parts", lambda: of(metis_parts(graph, parts, SEED))),
        (f"as documented, {parts} parts", library),
    ]
    return "legcf", "edges cut", measure, calls


def spectral(graph: BipartiteGraph, clusters: int) -> Iterator[tuple[str, str, Measure, list[Call]]]:
    """Spectral co- and bi-clustering, whose classes take no node without an edge."""
    matrix = graph.to_scipy()
    linked = [np.flatnonzero(np.asarray(matrix.sum(axis=axis))) for axis in (1, 0)]
    dense = matrix[linked[0]][:, linked[1]]

    def spread(labels: Labels) -> Labels:
        """The labels of all nodes, those without an edge in a cluster of their own."""
        both = []
        for size, nodes, own in zip(matrix.shape, linked, labels, strict=True):
            both.append(np.full(size, clusters))
            both[-1][nodes] = own
        return both[0], both[1]

    def library(model: SpectralCoclustering | SpectralBiclustering) -> Labels:
        model.fit(dense)
        return spread((model.row_labels_, model.column_labels_))

    def normalised_cut(labels: Labels) -> float:
        """The mean over clusters of the share of their edges' ends that leave them."""
        edges = matrix.tocoo()
        one, other = labels[0][edges.row], labels[1][edges.col]
        ends = np.bincount(np.concatenate([one, other]))
        inside = np.bincount(one[one == other], minlength=len(ends))
        return float(1 - (2 * inside[ends > 0] / ends[ends > 0]).mean())

    yield (
        "spectral-co",
        "normalised cut",
        normalised_cut,
        [
            ("ours", lambda: of(spectral_coclustering(graph, SEED)(2 * clusters))),
            ("as documented", lambda: library(SpectralCoclustering(n_clusters=clusters, random_state=SEED))),
        ],
    )
    shares = deal_rows((graph.num_users, graph.num_items), 2 * clusters)
    yield (
        "spectral-bi",
        "bits of mutual information",
        lambda labels: information(graph, labels),
        [
            ("ours", lambda: of(spectral_biclustering(graph, SEED)(2 * clusters))),
            ("as documented", lambda: library(SpectralBiclustering(n_clusters=shares, random_state=SEED))),
        ],
    )


def coclustering(graph: BipartiteGraph, rows: int) -> tuple[str, str, Measure, list[Call]]:
    """ITCC, and the turns of its paper, in which all nodes of a side move at once."""
    matrix = graph.to_scipy().astype(float)
    shares = deal_rows((graph.num_users, graph.num_items), rows)

    def start() -> Labels:
        generator = np.random.default_rng(SEED)
        users, items = (generator.permutation(size) % share for size, share in zip(matrix.shape, shares, strict=True))
        return users, items

    def nearest(side: scipy.sparse.csr_array, own: np.ndarray, other: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """The least Kullback-Leibler divergence, from distributions that have 1e-6 where they have nothing."""
        spread = scipy.sparse.csr_array(side @ one_hot(other, counts[1]))
        joint = scipy.sparse.csr_array(one_hot(own, counts[0]).T @ spread)
        joint.data = np.log1p(1e6 * joint.data / np.repeat(joint.sum(axis=1), np.diff(joint.indptr)))
        labels, _ = row_best(scipy.sparse.csr_array(spread @ joint.T))
        return np.where(labels < 0, own, labels)

    def published() -> Labels:
        users, items = start()
        for _ in range(20):
            users = nearest(matrix, users, items, shares)
            items = nearest(matrix.T.tocsr(), items, users, shares[::-1])
        return users, items

    calls: list[Call] = [
        (f"ours, {rows} rows", lambda: of(information_theoretic(graph, rows, SEED))),
        (f"all nodes at once, {rows} rows", published),
        (f"the start, {rows} rows", start),
    ]
    return "itcc", "bits of mutual information", lambda labels: information(graph, labels), calls


def information(graph: BipartiteGraph, labels: Labels) -> float:
    """Bits of mutual information between the clusters of a random edge's ends."""
    edges = graph.to_scipy().tocoo()
    joint = scipy.sparse.coo_array((edges.data, (labels[0][edges.row], labels[1][edges.col]))).tocsr()
    joint = (joint / joint.sum()).tocoo()
    sides = [np.asarray(joint.sum(axis=axis)).ravel() for axis in (1, 0)]
    return float((joint.data * np.log2(joint.data / sides[0][joint.row] / sides[1][joint.col])).sum())


def of(sides: Sides) -> Labels:
    return np.asarray(sides[0].labels), np.asarray(sides[1].labels)


if __name__ == "__main__":
    main()
