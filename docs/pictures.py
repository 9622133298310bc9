"""Draw pictures of these pages, of MovieLens-100K as the demo reads it and of kept results: python docs/pictures.py"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult, load_split
from baco_gpu.data.names import item_names
from baco_gpu.methods.registry import current_name
from baco_gpu.plots.comparison import lost_figure

FOLDER = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
# All methods at a quarter of the parameters, then ours at other budgets.
TITLES = {"lightgcn": "Beauty, LightGCN", "mf": "Beauty, matrix factorization"}
LEAST_SHARE = 0.06  # methods that choose their own size, and choose less than that, are in lost.png
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


# What the front page names: the word, its colour (grey: not ours), and where it stands, in points from the last dot.
GREY = "#777777"
NAMED = {
    "product": ("product", "#0072B2", (-10, -16)),
    "quantized": ("quantized", "#009E73", (-10, 9)),
    "affinity": ("affinity", "#D55E00", (9, -4)),
    "bisecting": ("bisecting", "#CC79A7", (4, 8)),
    "low-dim": ("fewer dimensions", GREY, (-100, -4)),
    "legcf": ("LEGCF", GREY, (9, -4)),
    "louvain": ("Louvain", GREY, (9, -4)),
    "baco": ("BACO as published", GREY, (9, -4)),
    "random": ("hashing", GREY, (9, -4)),
}


def front() -> Figure:
    """Recall kept against bytes: ours named and in colour, all others grey."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    rows = beauty_rows()
    for axes, (model, title) in zip(figure.subplots(1, 2, sharey=True), TITLES.items(), strict=True):
        own = [row for row in rows if row["model"] == model]
        full = next(row["recall@20"] for row in own if row["method"] == "full")
        for method in dict.fromkeys(row["method"] for row in own):
            points = sorted(
                (row["bytes"] / row["bytes_full"], row["recall@20"] / full) for row in own if row["method"] == method
            )
            shares, kept = zip(*points, strict=True)
            if method == "full" or shares[0] < LEAST_SHARE:
                continue
            word, colour, place = NAMED.get(method, ("", GREY, (0, 0)))
            axes.plot(shares, kept, "o-", color=colour, markersize=4 if colour == GREY else 7)
            axes.annotate(word, (shares[-1], kept[-1]), place, textcoords="offset points", color=colour)
        axes.axhline(1, color="#333333", linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlim(LEAST_SHARE, 0.62)
        axes.set_ylim(0, 1.15)
        ticks = (0.07, 0.1, 0.13, 0.25, 0.33)
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("bytes, of the full table's")
    figure.axes[0].set_ylabel("recall@20 kept")
    return figure


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
    drawn["front"] = front()
    drawn["lost"] = lost_figure(beauty_rows(), "Beauty")
    FOLDER.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        # Without a date or a version in it, the same picture is the same file.
        figure.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
