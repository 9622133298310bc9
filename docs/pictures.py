"""Draw the pictures of these pages, from MovieLens-100K as the demo reads it: python docs/pictures.py"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult, load_split

FOLDER = Path(__file__).parent / "pictures"


def at(budget: float, graph: BipartiteGraph) -> CoclusteringResult:
    return BalancedCoclustering(budget=budget, embedding_dim=64, random_state=0).fit(graph).result_


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

    FOLDER.mkdir(exist_ok=True)
    for name, figure in {"blocks": blocks, "sizes_and_trace": pair, "quality_vs_budget": quality}.items():
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        # Without a date or a version in it, the same picture is the same file.
        figure.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
