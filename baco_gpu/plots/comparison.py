"""Pictures of a comparison: what each method keeps of the full table's recall, and what it costs.

All take the rows of `baco_gpu.experiment.summary.aggregate`. Lines and points are named where they are, so that no
colour has to be matched with a legend; colours are those that colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = "osD^vPX*<>"
_FULL = "full"
_LABEL_HEIGHT = 11  # points between the baselines of two labels
_AS_IT_IS: dict[str, Any] = {"parse_math": False}  # of a name, in which dollars are letters
_TICKS_APART = 1.3  # times one share the next, at least


def figures_of(rows: Sequence[dict[str, Any]], title: str) -> dict[str, Figure]:
    """The pictures that the rows allow, by file name: recall against the budget where there are several and bars where
    there is one, a picture a model, recall against the seconds of clustering and, where there are full tables, what is
    lost of their recall.

    Methods that choose their own size make no budget. Rows whose runs failed are left out.
    """
    finished = [row for row in rows if row["seeds"]]
    compressed = [row for row in finished if row["method"] != _FULL]
    figures = {}
    if len(_budgets(compressed)) > 1:
        figures["comparison.png"] = budget_figure(finished, title)
    else:
        models = list(dict.fromkeys(row["model"] for row in finished))
        for model in models:
            name = "comparison.png" if len(models) == 1 else f"comparison-{model}.png"
            own = [row for row in finished if row["model"] == model]
            figures[name] = comparison_figure(own, f"{model} on {title}")
    if len({row["method"] for row in compressed}) > 1:
        figures["clustering.png"] = seconds_figure(finished, title)
    if compressed and {row["model"] for row in finished if row["method"] == _FULL} >= {
        row["model"] for row in finished
    }:
        figures["lost.png"] = lost_figure(finished, title)
    return figures


def comparison_figure(rows: Sequence[dict[str, Any]], title: str, metric: str = "recall@20") -> Figure:
    """Recall and size of the methods at one budget, best first.

    Parameters
    ----------
    rows : sequence of dict
        Of one model and one budget; those whose runs failed are left out.
    """
    from matplotlib.figure import Figure

    shown = sorted((row for row in rows if metric in row), key=lambda row: row[metric])
    figure = Figure(figsize=(9, 1.6 + 0.32 * len(shown)), layout="constrained")
    quality, cost = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    places = np.arange(len(shown))
    colours = [_COLOURS[0] if row["method"] != _FULL else "#555555" for row in shown]
    values = [row[metric] for row in shown]
    bars = quality.barh(places, values, xerr=[row[f"{metric}_sd"] for row in shown], color=colours, height=0.7)
    quality.bar_label(bars, labels=[f"{value:.4f}" for value in values], padding=4)
    quality.set_yticks(places, [row["method"] for row in shown], **_AS_IT_IS)
    quality.set_xlabel(f"test {metric}")
    bars = cost.barh(places, [row[row["measure"]] / 1e6 for row in shown], color=colours, height=0.7)
    cost.bar_label(bars, labels=[f"{share_of(row):.1%}" for row in shown], padding=4)
    cost.set_xlabel(f"{_measure(shown)} (millions)")
    for axes in (quality, cost):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
    figure.suptitle(visible(title), **_AS_IT_IS)
    return figure


def budget_figure(rows: Sequence[dict[str, Any]], title: str, metric: str = "recall@20") -> Figure:
    """Recall against the share of the full table's parameters, or bytes, a line a method and a panel a model.

    The full table is a level line; bands are one sample deviation over the seeds.
    """
    figure, panels = _panels(rows, title)
    styles = method_styles(row["method"] for row in rows)
    for model, axes in panels.items():
        budget_lines(axes, [row for row in rows if row["model"] == model], metric, styles)
        axes.set_title(model, **_AS_IT_IS)
    return figure


def budget_lines(
    axes: Axes, rows: Sequence[dict[str, Any]], metric: str, styles: dict[str, dict[str, Any]] | None = None
) -> None:
    """A panel of `budget_figure`: the rows of one model. Without `styles` the methods of the rows get their own."""
    styles = method_styles(row["method"] for row in rows) if styles is None else styles
    labels = []
    own = [row for row in rows if metric in row]
    for method in dict.fromkeys(row["method"] for row in own):
        line = sorted((row for row in own if row["method"] == method), key=share_of)
        shares = np.array([share_of(row) for row in line])
        values, spread = (np.array([row[name] for row in line]) for name in (metric, f"{metric}_sd"))
        low, high, colour = values - spread, values + spread, styles[method]["color"]
        if method == _FULL:
            axes.axhline(values[0], **styles[method], linestyle="--")
            axes.axhspan(low[0], high[0], alpha=0.12, color=colour, lw=0)
            labels.append((values[0], method))
            continue
        axes.plot(shares, values, **styles[method], markersize=5)
        axes.fill_between(shares, low, high, alpha=0.15, color=colour, lw=0)
        labels.append((values[-1], method))
    axes.set_xscale("log")
    _from_zero(axes)
    axes.set_xlabel(f"share of the full table's {_measure(own)}")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.xaxis.set_minor_formatter(lambda share, _: "")
    axes.set_xticks(_ticks({round(share_of(row), 2) for row in own} - {1.0, 0.0}))
    axes.set_ylabel(f"test {metric}")
    _label_at_the_right(axes, labels, styles)


def seconds_figure(rows: Sequence[dict[str, Any]], title: str, metric: str = "recall@20") -> Figure:
    """Recall against the seconds of clustering, a point a method and budget, a panel a model."""
    figure, panels = _panels(rows, title)
    styles = method_styles(row["method"] for row in rows)
    for model, axes in panels.items():
        own = [row for row in rows if row["model"] == model and metric in row and row["method"] != _FULL]
        several = len(_budgets(own)) > 1
        points = []
        for row in own:
            seconds = max(row["seconds_clustering"], 1e-3)
            axes.plot(seconds, row[metric], **{**styles[row["method"]], "linestyle": "none"}, markersize=7)
            unlike = several or row["budget"] is None
            share = f" {share_of(row):.0%}" if unlike else ""
            points.append((seconds, row[metric], row["method"] + share, styles[row["method"]]["color"]))
        for row in rows:
            if row["model"] == model and row["method"] == _FULL and metric in row:
                axes.axhline(row[metric], **styles[_FULL], linestyle="--")
                axes.annotate(
                    _FULL, (0, row[metric]), (2, 3), xycoords=("axes fraction", "data"), textcoords="offset points"
                )
        axes.set_xscale("log")
        _from_zero(axes)
        axes.margins(x=0.25)
        axes.set_xlabel("seconds of clustering, with the search for the budget")
        axes.set_ylabel(f"test {metric}")
        axes.set_title(model, **_AS_IT_IS)
        _label_points(axes, points)
    return figure


def lost_figure(rows: Sequence[dict[str, Any]], title: str, metric: str = "recall@20") -> Figure:
    """What is lost of the full table's recall against the bytes that are left of it, of all methods, a panel a model.

    Parameters
    ----------
    rows : sequence of dict
        Of any budgets, with the full table of every model. A method of several budgets is a line.
    """
    figure, panels = _panels(rows, title)
    styles = method_styles(row["method"] for row in rows)
    for model, axes in panels.items():
        own = [row for row in rows if row["model"] == model and metric in row]
        full = next(row[metric] for row in own if row["method"] == _FULL)
        axes.axhline(0, **styles[_FULL], linestyle="--")
        labels = [(0.0, _FULL)]
        for method in dict.fromkeys(row["method"] for row in own if row["method"] != _FULL):
            line = sorted((row for row in own if row["method"] == method), key=lambda row: row["bytes"])
            shares = [row["bytes"] / row["bytes_full"] for row in line]
            lost = [100 * (1 - row[metric] / full) for row in line]
            axes.plot(shares, lost, **styles[method], markersize=5)
            labels.append((lost[-1], method))
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        axes.xaxis.set_minor_formatter(lambda share, _: "")
        axes.set_xticks(_ticks({round(row["bytes"] / row["bytes_full"], 2) for row in own} - {1.0, 0.0}))
        axes.set_xlabel("share of the full table's bytes")
        axes.set_ylabel(f"test {metric} lost (% of the full table's)")
        axes.set_title(model, **_AS_IT_IS)
        _label_at_the_right(axes, labels, styles)
    return figure


def share_of(row: dict[str, Any]) -> float:
    """What a row's tables cost of the full one, in the measure of its budget."""
    return float(row[row["measure"]] / row[f"{row['measure']}_full"])


def _measure(rows: Sequence[dict[str, Any]]) -> str:
    """What the budgets of a comparison are shares of."""
    return next((str(row["measure"]) for row in rows), "parameters")


def _budgets(rows: Sequence[dict[str, Any]]) -> set[str]:
    return {str(row["budget"]) for row in rows if row["budget"] is not None}


def _panels(rows: Sequence[dict[str, Any]], title: str) -> tuple[Figure, dict[str, Axes]]:
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row["model"] for row in rows))
    height = max(5.0, 1.2 + 0.2 * len({row["method"] for row in rows}))  # room for their names, one below the other
    figure = Figure(figsize=(7.0 * len(models), height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(models)))
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(visible(title), **_AS_IT_IS)
    return figure, dict(zip(models, axes, strict=True))


def method_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for every method, in the order in which they come, as keywords of `Axes.plot`.

    The pair is used once. The full table is grey.
    """
    methods = [method for method in dict.fromkeys(names) if method != _FULL]
    styles: dict[str, dict[str, Any]] = {_FULL: {"color": "#555555", "linewidth": 1.2}}
    for index, method in enumerate(methods):
        colour = _COLOURS[index % len(_COLOURS)]
        marker = _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]
        styles[method] = {"color": colour, "marker": marker, "linewidth": 1.6}
    return styles


def _ticks(shares: set[float]) -> list[float]:
    """Those of the shares whose labels do not meet on a logarithmic axis; of two that are near the larger stays."""
    kept: list[float] = []
    for share in sorted(shares, reverse=True):
        if not kept or share < kept[-1] / _TICKS_APART:
            kept.append(share)
    return kept[::-1]


def _from_zero(axes: Axes) -> None:
    """Let heights begin at zero, with room above the highest: values of a small range would have no margin to see."""
    axes.set_ylim(0, 1.04 * axes.get_ylim()[1])


def _label_at_the_right(axes: Axes, labels: list[tuple[float, str]], styles: dict[str, dict[str, Any]]) -> None:
    """Names of lines right of the axes, at their heights or as near as leaves them legible."""
    figure = axes.figure
    figure.canvas.draw()
    height = axes.get_window_extent().height * 72 / figure.dpi
    bottom, top = axes.get_ylim()
    labels = sorted(labels, key=lambda label: (label[0] / (top - bottom), label[1]))  # from below
    wanted = [(value - bottom) / (top - bottom) * height for value, _ in labels]
    for place, (value, name) in zip(_spread(wanted, _LABEL_HEIGHT), labels, strict=True):
        axes.annotate(
            name,
            (1.0, value),
            (1.03, place / height),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            color=styles[name]["color"],
            va="center",
            **_AS_IT_IS,
            arrowprops=_leader(styles[name]["color"], 0.6),
        )


def _label_points(axes: Axes, points: list[tuple[float, float, str, str]]) -> None:
    """Names beside points, one below the other where they would meet."""
    figure = axes.figure
    figure.canvas.draw()
    scale = 72 / figure.dpi
    taken: list[tuple[float, float, float]] = []
    for x, y, name, colour in sorted(points, key=lambda point: -point[1]):
        left, middle = (float(value) * scale for value in axes.transData.transform((x, y)))
        left += 8
        place, width = middle, 5.6 * len(name)
        while any(
            abs(place - other) < _LABEL_HEIGHT and left < end and start < left + width for start, end, other in taken
        ):
            place -= 1.0
        taken.append((left, left + width, place))
        axes.annotate(
            name,
            (x, y),
            (8, place - middle),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            **_AS_IT_IS,
            arrowprops=_leader(colour, 0.4) if middle - place > 4 else None,
        )


def _leader(colour: str, width: float) -> dict[str, Any]:
    """A thin line from what is named to the left end of its name."""
    return {"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "lw": width}


def _spread(wanted: list[float], gap: float) -> list[float]:
    """Ascending places nearest to the wanted ones, at least `gap` apart: neighbors that meet share a block."""
    blocks: list[tuple[float, int]] = []  # centre and number of places
    for place in wanted:
        centre, count = place, 1
        while blocks and centre - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            before, members = blocks.pop()
            centre, count = (before * members + centre * count) / (members + count), members + count
        blocks.append((centre, count))
    return [centre + gap * (index - (count - 1) / 2) for centre, count in blocks for index in range(count)]
