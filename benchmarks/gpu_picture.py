"""The picture of `benchmarks.gpu`: the solver by size and phase, its memory, and lookups and training beside others."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baco_gpu.benchmarking.solving import PHASES

_GOAL = 3e9  # edges a second: nu-LPA's, on an A100


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw what there is of the parts that have run."""
    figure = Figure(figsize=(17, 9), layout="constrained")
    rate, phases, memory, lookups, training, notes = figure.subplots(2, 3).flat
    rows = {part["part"]: part["rows"] for part in found["parts"]}
    solves = [row for name, part in rows.items() if name.startswith("solve-") for row in part if "share_of_copy" in row]
    _rates(rate, solves, rows.get("cugraph", []))
    _phases(phases, [row for row in solves if row["case"] == "full"])
    _memory(memory, solves)
    _bars(lookups, "lookup, gradient, Adam: microseconds", _steps(rows.get("lookups", [])))
    _bars(
        training,
        "million triples a second",
        [(row["case"], row["triples_per_second"] / 1e6) for row in rows.get("training", []) if row["table"]],
    )
    _notes(notes, found)
    figure.savefig(path, format="png", dpi=110)


def _rates(axes: Axes, solves: list[dict[str, Any]], peers: list[dict[str, Any]]) -> None:
    axes.set(title="edges a second, but for loading", xlabel="edges", xscale="log", yscale="log")
    for solver in dict.fromkeys(row["case"] for row in solves):
        own = [row for row in solves if row["case"] == solver]
        axes.plot([row["edges"] for row in own], [row["edges_a_second"] for row in own], "o-", label=solver)
    for name in dict.fromkeys(row["case"].partition(",")[0] for row in peers):
        own = [row for row in peers if row["case"].startswith(name)]
        axes.plot([row["edges"] for row in own], [row["edges_a_second"] for row in own], "s--", label=f"cuGraph {name}")
    axes.axhline(_GOAL, color="gray", linewidth=0.8, label="nu-LPA, A100")
    axes.legend(fontsize=8)


def _phases(axes: Axes, solves: list[dict[str, Any]]) -> None:
    axes.set(title="the full solver by phase", ylabel="share of its seconds")
    bottom = [0.0] * len(solves)
    for phase in PHASES:
        seconds = [row[f"seconds_{phase}"] or 0.0 for row in solves]
        shares = [own / (row["seconds"] + row["seconds_load"]) for own, row in zip(seconds, solves, strict=True)]
        axes.bar([f"{row['edges']:.0e}" for row in solves], shares, bottom=bottom, label=phase)
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    if solves:
        axes.legend(fontsize=8)


def _memory(axes: Axes, solves: list[dict[str, Any]]) -> None:
    axes.set(title="GiB taken, and planned (dashes)", xlabel="edges", xscale="log", yscale="log")
    for solver in dict.fromkeys(row["case"] for row in solves):
        own = [row for row in solves if row["case"] == solver and row["peak_gib"] and row["planned_gib"]]
        edges = [row["edges"] for row in own]
        (line,) = axes.plot(edges, [row["peak_gib"] for row in own], "o-", label=solver)
        axes.plot(edges, [row["planned_gib"] for row in own], "--", color=line.get_color())
    if solves:
        axes.legend(fontsize=8)


def _steps(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [
        (f"{row['candidate']}, {row['batch']:,}", float(row["microseconds"]))
        for row in rows
        if row.get("phase") == "step"
    ]


def _bars(axes: Axes, title: str, values: list[tuple[str, float]]) -> None:
    axes.set(title=title, xscale="log" if values else "linear")
    axes.barh([name for name, _ in values], [value for _, value in values])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)


def _notes(axes: Axes, found: dict[str, Any]) -> None:
    about = found["about"]
    lines = [f"{about['cpu']}, {about['date']}, commit {about['commit']}"]
    for part in found["parts"]:
        cause = f": {part['cause']}" if part["cause"] else ""
        lines += wrap(f"{part['part']}: {part['status']}, {part['seconds']:.0f} s{cause}", 60, subsequent_indent="    ")
    axes.axis("off")
    text = axes.text(0, 1, "\n".join(lines), va="top", fontsize=8, transform=axes.transAxes, parse_math=False)
    text.set_in_layout(False)
