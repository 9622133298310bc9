"""The picture of a comparison: what each method keeps of the full table's recall, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def comparison_figure(rows: Sequence[dict[str, Any]], title: str, metric: str = "recall@20") -> Figure:
    """Three panels over the methods of `rows` (summaries of outcomes): the metric, parameters, validation curves.

    Parameters
    ----------
    rows : sequence of dict
        As `Outcome.summary()`, each with a further key "curve": pairs of epoch and validation metric.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    quality, cost, curves = figure.subplots(1, 3)
    names = [row["method"] for row in rows]
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(rows))]

    bars = quality.bar(names, [row[metric] for row in rows], color=colours)
    quality.bar_label(bars, fmt="%.4f")
    quality.set_ylabel(f"test {metric}")
    bars = cost.bar(names, [row["parameters"] / 1e6 for row in rows], color=colours)
    cost.bar_label(bars, labels=[f"{row['parameters'] / row['parameters_full']:.1%}" for row in rows])
    cost.set_ylabel("parameters (millions)")
    for row, colour in zip(rows, colours, strict=True):
        epochs, values = zip(*row["curve"], strict=True)
        curves.plot(epochs, values, color=colour, label=row["method"])
    curves.set_xlabel("epoch")
    curves.set_ylabel(f"validation {metric}")
    curves.legend(frameon=False)
    for axes in (quality, cost, curves):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
    figure.suptitle(title)
    return figure
