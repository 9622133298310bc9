"""What clustering over GPUs would take, from what `benchmarks.distributed` has counted: a model, of machines not here.

    python -m benchmarks.distributed_model --counted benchmarks/results/distributed.csv

A solve takes its visits to edges over the rate of a device, the bytes that come to a rank over the rate of its link,
and a latency for every exchange. Visits, bytes and exchanges are those counted at some ranks, in proportion to edges
and nodes; a rank gets (N - 1) / N of what is exchanged about nodes, and (N - 1) / N of its N-th of that about edges.

Links, in bytes a second to a GPU: NVLink of an H100, 900 GB/s in both directions together; InfiniBand NDR, a ConnectX-7
of 400 Gb/s a GPU (both: NVIDIA, DGX H100/H200 User Guide, introduction). Assumed, as nothing here can measure it: 3e9
visits a second, which is the edges over the seconds of nu-LPA's whole run on an A100 (arXiv 2411.11468), so that its
visits are faster; half of a link's rate; 20 microseconds an exchange on one machine, 50 between machines.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

_VISITS = 3e9  # a second and GPU
_EFFICIENCY = 0.5
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


STAGES = ("sweep", "contraction", "merging", "partners", "secondary")


def seconds(edges: float, nodes: float, cluster: Cluster, counts: Counts) -> tuple[float, float, float]:
    """Seconds of visits, of bytes and of latency."""
    others = (cluster.gpus - 1) / cluster.gpus
    visits = 2 * edges / cluster.gpus * (_SWEEPS + _LEVELS * _CONTRACTION_VISITS)
    come = others * (counts.a_node * nodes + counts.an_edge * edges / cluster.gpus)
    # A block: a table of numbers, and a broadcast from every rank. A round: six exchanges, of which two are broadcasts.
    exchanges = _SWEEPS * _BLOCKS * (1 + cluster.gpus) + counts.rounds * (4 + 2 * cluster.gpus)
    return visits / _VISITS, come / (_EFFICIENCY * cluster.rate), exchanges * cluster.latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted", type=Path, default=Path("benchmarks/results/distributed.csv"))
    parser.add_argument("--edges-a-node", type=float, default=100)
    parser.add_argument("--ranks", default="4", help="take what was counted at so many ranks")
    arguments = parser.parse_args()
    with arguments.counted.open(newline="") as file:
        row = [row for row in csv.DictReader(file) if row["ranks"] == arguments.ranks][-1]
    counts = Counts.of(row)
    print(f"{counts.a_node:.1f} bytes a node, {counts.an_edge:.1f} bytes an edge, {counts.rounds} rounds of merging")
    print("| edges | nodes | on | visits, s | bytes, s | latency, s | all, s |\n|---|---|---|---|---|---|---|")
    for edges in (1e9, 1e10, 1e11):
        for cluster in CLUSTERS:
            nodes = edges / arguments.edges_a_node
            parts = seconds(edges, nodes, cluster, counts)
            cells = " | ".join(f"{part:.2f}" for part in (*parts, sum(parts)))
            print(f"| {edges:.0e} | {nodes:.0e} | {cluster.name} | {cells} |")


if __name__ == "__main__":
    main()
