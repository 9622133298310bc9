"""What clustering over GPUs would take, from what `benchmarks.distributed` has counted: a model, of machines not here.

    python -m benchmarks.distributed_model --counted benchmarks/results/distributed.csv \
        --worked benchmarks/results/distributed-work.csv

A solve takes its visits to edges over the rate of a device, what every rank does alike for all nodes, the bytes that
come to a rank over the rate of its link, and a latency for every exchange. Visits, bytes and exchanges are those
counted at some ranks, in proportion to edges and nodes; a rank gets (N - 1) / N of what is exchanged about nodes, and
(N - 1) / N of its N-th of that about edges. What nodes take is the part of a core's seconds that does not fall as ranks
share the edges: --worked has them for several ranks.

Links, in bytes a second to a GPU: NVLink of an H100, 900 GB/s in both directions together; InfiniBand NDR, a ConnectX-7
of 400 Gb/s a GPU (both: NVIDIA, DGX H100/H200 User Guide, introduction). Assumed, as nothing here can measure it: 3e9
visits a second, which is the edges over the seconds of nu-LPA's whole run on an A100 (arXiv 2411.11468), so that its
visits are faster; half of a link's rate; 20 microseconds an exchange on one machine, 50 between machines; and for
nodes, of which arrays are read and written through, that a GPU is as much faster than a core as half of what its memory
does (3.35e12 bytes a second, H100 SXM: NVIDIA's data sheet) is than a copy by that core (2.6e10).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.distributed import planned

_VISITS = 3e9  # a second and GPU
_EFFICIENCY = 0.5
_FASTER_FOR_NODES = 0.5 * 3.35e12 / 2.6e10
_SWEEPS, _BLOCKS = 13, 8
_CONTRACTION_VISITS = 10  # what making a graph of clusters costs, in visits to its edges
_LEVELS = 4


class Cluster(NamedTuple):
    """So many GPUs, bytes a second that a link brings to each, and seconds of latency."""

    name: str
    gpus: int
    rate: float
    latency: float


CLUSTERS = (
    Cluster("8 GPUs, NVLink", 8, 450e9, 20e-6),
    Cluster("64 GPUs, InfiniBand", 64, 50e9, 50e-6),
)


class Counts(NamedTuple):
    """Bytes in a whole solve: about nodes, a node; about edges, an edge. And rounds of merging."""

    a_node: float
    an_edge: float
    rounds: int

    @classmethod
    def of(cls, row: dict[str, str]) -> Counts:
        ranks, edges, nodes = (int(row[name]) for name in ("ranks", "edges", "nodes"))
        here = {name: 1e6 * float(row[f"megabytes_{name}"]) * ranks / (ranks - 1) for name in STAGES}
        about_edges = here["contraction"] + here["merging"]
        return cls((sum(here.values()) - about_edges) / nodes, about_edges * ranks / edges, int(row["exchanges"]))


class Work(NamedTuple):
    """Seconds that a core takes in a whole solve: for an edge of a rank's share, and for a node of all."""

    an_edge: float
    a_node: float

    @classmethod
    def of(cls, rows: list[dict[str, str]]) -> Work:
        """What fits the seconds of several ranks best."""
        known = [[float(row["edges"]) / float(row["ranks"]), float(row["nodes"])] for row in rows]
        seconds = [float(row["processor_seconds_a_rank"]) for row in rows]
        fitted, *_ = np.linalg.lstsq(np.array(known), np.array(seconds), rcond=None)
        return cls(*fitted.tolist())


STAGES = ("sweep", "contraction", "merging", "partners", "secondary")


def seconds(
    edges: float, nodes: float, cluster: Cluster, counts: Counts, work: Work
) -> tuple[float, float, float, float]:
    """Seconds of visits, of nodes, of bytes and of latency."""
    visits = 2 * edges / cluster.gpus * (_SWEEPS + _LEVELS * _CONTRACTION_VISITS)
    come = _come(edges, nodes, cluster.gpus, counts)
    # A block: a table of numbers, and a broadcast from every rank. A round: six exchanges, of which two are broadcasts.
    exchanges = _SWEEPS * _BLOCKS * (1 + cluster.gpus) + counts.rounds * (4 + 2 * cluster.gpus)
    alike = work.a_node * nodes / _FASTER_FOR_NODES
    return visits / _VISITS, alike, come / (_EFFICIENCY * cluster.rate), exchanges * cluster.latency


def _come(edges: float, nodes: float, ranks: int, counts: Counts) -> float:
    """Bytes that come to a rank."""
    return (ranks - 1) / ranks * (counts.a_node * nodes + counts.an_edge * edges / ranks)


def _ranks_of(path: Path) -> list[dict[str, str]]:
    """What was measured over ranks."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["ranks"].isdecimal()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted", type=Path, default=Path("benchmarks/results/distributed.csv"))
    parser.add_argument("--worked", type=Path, default=Path("benchmarks/results/distributed-work.csv"))
    parser.add_argument("--edges-a-node", type=float, default=100)
    parser.add_argument("--ranks", default="4", help="take what was counted at so many ranks")
    arguments = parser.parse_args()
    counts = Counts.of([row for row in _ranks_of(arguments.counted) if row["ranks"] == arguments.ranks][-1])
    measured = _ranks_of(arguments.worked)
    work = Work.of(measured)
    print(f"a core: {1e6 * work.an_edge:.2f} us an edge of its share, {1e6 * work.a_node:.2f} us a node")
    for row in measured:
        told = work.an_edge * float(row["edges"]) / float(row["ranks"]) + work.a_node * float(row["nodes"])
        print(f"{row['ranks']} ranks: {row['processor_seconds_a_rank']} s of a core measured, {told:.2f} by the model")
    for row in _ranks_of(arguments.counted):
        if int(row["ranks"]) > 1:
            mine, come = Counts.of(row), sum(float(row[f"megabytes_{name}"]) for name in STAGES)
            told = _come(float(row["edges"]), float(row["nodes"]), int(row["ranks"]), counts) / 1e6
            print(f"{row['ranks']} ranks: {come:.1f} MB counted, {told:.1f} by the model; {mine.rounds} rounds")
    print(f"{counts.a_node:.1f} bytes a node, {counts.an_edge:.1f} bytes an edge, {counts.rounds} rounds of merging")
    print("| edges | nodes | on | visits, s | nodes, s | bytes, s | latency, s | all, s | GB a GPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    for edges in (1e9, 1e10, 1e11):
        for cluster in CLUSTERS:
            nodes = edges / arguments.edges_a_node
            parts = seconds(edges, nodes, cluster, counts, work)
            cells = " | ".join(f"{part:.2f}" for part in (*parts, sum(parts)))
            room = planned(edges, nodes, cluster.gpus) / 1e9
            print(f"| {edges:.0e} | {nodes:.0e} | {cluster.name} | {cells} | {room:.0f} |")


if __name__ == "__main__":
    main()
