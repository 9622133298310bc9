"""Draw pictures of these pages, of MovieLens-100K as the demo reads it and of kept results: python docs/pictures.py"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult, load_split
from baco_gpu.data.names import item_names
from baco_gpu.methods.registry import current_name
from baco_gpu.plots.comparison import lost_figure

FOLDER = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
# All methods at a quarter of the parameters, then ours at other budgets.
BEAUTY = ("beauty-softmax", "bytes", "product", "bisecting")


def at(budget: float, graph: BipartiteGraph) -> CoclusteringResult:
    return BalancedCoclustering(budget=budget, embedding_dim=64, random_state=0).fit(graph).result_


def beauty_rows() -> list[dict[str, Any]]:
    """What was measured of every method on Beauty: of runs that were repeated the later file's."""
    rows = {}
    for name in BEAUTY:
        with (RESULTS / f"quality-{name}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["data"] == "beauty":
                    figures = {key: float(row[key]) for key in ("bytes", "bytes_full", "recall@20")}
                    method = current_name(row["method"])
                    rows[row["model"], method, row["budget"]] = {"model": row["model"], "method": method, **figures}
    return list(rows.values())


def main() -> None:
    graph = BipartiteGraph.from_interactions(load_split("movielens-100k").train)
    result = at(0.25, graph)

    blocks = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, shown in zip(blocks.subplots(1, 2), (at(0.01, graph), result), strict=True):
        shown.plot.blocks(graph, axes, bins=96)
        axes.set_title(
            f"{shown.codebook_rows} rows for {graph.num_users + graph.num_items:,} users and items",
            loc="left",
            fontsize=10,
        )

    pair = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = pair.subplots(1, 2)
    result.plot.sizes(left)
    result.plot.trace(right)

    quality = Figure(figsize=(5.6, 3.6), layout="constrained")
    result.plot.quality_vs_budget(graph, quality.subplots())

    drawn = {"blocks": blocks, "sizes_and_trace": pair, "quality_vs_budget": quality}
    drawn["clusters"] = result.plot.clusters(item_names("movielens-100k"))
    drawn["lost"] = lost_figure(beauty_rows(), "Beauty")
    FOLDER.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        # Without a date or a version in it, the same picture is the same file.
        figure.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
