"""Tables of a grid: means and deviations over seeds, as rows for a CSV file and as Markdown."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any

from baco_gpu.budget import budget_of
from baco_gpu.experiment.published import published_budget, published_figures, source
from baco_gpu.experiment.trial_store import DONE
from baco_gpu.experiment.trials import budget_label

METRICS = tuple(f"{name}@{k}" for name in ("recall", "recall_capped", "ndcg") for k in (10, 20, 50))
COSTS = ("codebook_rows", "parameters", "bytes", "seconds_clustering", "seconds_training", "best_epoch")
ORDERED_BY = "recall_capped@10"

# The published figures belong to one budget; at another one they are not shown.
_NEAR = 0.1


def aggregate(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each model, budget and method: the number of seeds, and mean and deviation of every figure.

    Returns
    -------
    list of dict
        `data`, `model`, `budget` (as given, None for the full table and methods that choose their size), `measure`
        (what a budget is a share of), `method`, `seeds`, `parameters_full`, `bytes_full`, `reason` (of a failed run,
        else ""), and for every name of METRICS and COSTS the mean under the name itself and the sample deviation (0 for
        one seed) under `NAME_sd`; `paper` has the published metrics. A row whose runs all failed has no figures.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        run = record["run"]
        measure = run["clustering"]["budget_measure"]
        key = (run["data"], run["model"], json.dumps(run["budget"]), measure, run["method"])
        groups.setdefault(key, []).append(record)
    return [_row(members) for members in groups.values()]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV, one column a figure; published metrics under `NAME_paper`."""
    figures = [column for name in (*METRICS, *COSTS) for column in (name, f"{name}_sd")]
    paper = sorted({f"{name}_paper" for row in rows for name in row["paper"]})
    full = ["parameters_full", "bytes_full"]
    columns = ["data", "model", "method", "budget", "measure", "seeds", *full, *figures, *paper, "reason"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, **{f"{name}_paper": value for name, value in row["paper"].items()}})
    return text.getvalue()


def as_markdown(rows: Sequence[dict[str, Any]], versions: dict[str, str], machine: dict[str, str]) -> str:
    """One table for each set, model and budget, the full table in each, with the paper's figures where it has any."""
    parts = [f"# {', '.join(sorted({row['data'] for row in rows}))}", ""]
    tables = {json.dumps([row[name] for name in ("data", "model", "budget", "measure")]): row for row in rows}
    for table in tables.values():
        data, model, budget, measure = (table[name] for name in ("data", "model", "budget", "measure"))
        own = [row for row in rows if (row["data"], row["model"]) == (data, model)]
        if budget is None and any(row["budget"] is not None for row in own):
            continue
        shown = [row for row in own if row["budget"] is None or (row["budget"], row["measure"]) == (budget, measure)]
        title = f"{model} on {data}"
        if budget is not None:
            of_bytes = budget_of(budget, measure).is_share_of_bytes
            title += f" at {budget_label(budget)}{' of the bytes' if of_bytes else ''}"
        parts += [f"## {title}", "", *_markdown_table(shown), "", *_notes(shown, data, budget)]
    parts += [
        "Mean over the seeds, ± the sample deviation. The paper's figure, where there is one, stands in brackets.",
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['date']}.",
        "",
    ]
    return "\n".join(parts)


def order_agreement(rows: Sequence[dict[str, Any]], metric: str = ORDERED_BY) -> tuple[int, list[tuple[str, str]]]:
    """How far the order of methods is the paper's: the number of pairs that agree, and the pairs (paper's better,
    ours better) that do not."""
    both = [row for row in rows if metric in row and metric in row["paper"]]
    agreeing, reversed_pairs = 0, []
    for one, other in itertools.combinations(sorted(both, key=lambda row: -row["paper"][metric]), 2):
        if one[metric] >= other[metric]:
            agreeing += 1
        else:
            reversed_pairs.append((one["method"], other["method"]))
    return agreeing, reversed_pairs


def _row(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    run = members[0]["run"]
    done = [record["figures"] for record in members if record["status"] == DONE]
    row: dict[str, Any] = {name: run[name] for name in ("data", "model", "budget", "method")} | {"seeds": len(done)}
    row["measure"] = run["clustering"]["budget_measure"]
    row["reason"] = next((record["reason"] for record in members if record["status"] != DONE), "")
    row["paper"] = _near_published(members[0], done)
    if done:
        row |= {name: done[0][name] for name in ("parameters_full", "bytes_full")}
        for name in (*METRICS, *COSTS):
            values = [figures[name] for figures in done if name in figures]
            if values:
                row[name] = statistics.fmean(values)
                row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return row


def _near_published(record: dict[str, Any], done: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The published figures, if the run has about the published parameters or takes no budget."""
    run = record["run"]
    rows = published_budget(run["data"])
    compressed = run["budget"] is not None and rows is not None
    if compressed and (
        not done or abs(done[0]["parameters"] / ((rows or 1) * run["clustering"]["embedding_dim"]) - 1) > _NEAR
    ):
        return {}
    return published_figures(run["data"], run["model"], run["method"])


_COLUMNS = {
    "recall@20": "recall@20",
    "ndcg@20": "ndcg@20",
    "recall_capped@10": "capped recall@10",
    "ndcg@10": "ndcg@10",
    "recall_capped@50": "capped recall@50",
    "ndcg@50": "ndcg@50",
}


def _markdown_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = ["method", "rows", "parameters", "MB", *_COLUMNS.values(), "clustering s", "training s", "seeds"]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        if not row["seeds"]:
            cells = [row["method"], *["-"] * (len(names) - 2), "0"]
        else:
            share = row["parameters"] / row["parameters_full"]
            cells = [row["method"], f"{row['codebook_rows']:,.0f}", f"{row['parameters']:,.0f} ({share:.1%})"]
            cells += [f"{row['bytes'] / 1e6:.2f} ({row['bytes'] / row['bytes_full']:.1%})"]
            cells += [_metric(row, name) for name in _COLUMNS]
            cells += [f"{row['seconds_clustering']:.2f}", f"{row['seconds_training']:.0f}", str(row["seeds"])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _metric(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return "-"
    deviation = f" ± {row[f'{name}_sd']:.4f}" if row["seeds"] > 1 else ""
    paper = f" ({row['paper'][name]:.4f})" if name in row["paper"] else ""
    return f"{row[name]:.4f}{deviation}{paper}"


def _notes(rows: Sequence[dict[str, Any]], data: str, budget: Any) -> list[str]:
    notes = []
    own_size = [
        row["method"] for row in rows if row["budget"] is None and row.get("parameters") != row.get("parameters_full")
    ]
    if own_size:
        notes.append(f"{', '.join(own_size)}: the method chooses its own size, whatever the budget.")
    notes += [f"{row['method']}: {row['reason']}." for row in rows if row["reason"]]
    agreeing, reversed_pairs = order_agreement(rows)
    if agreeing + len(reversed_pairs):
        notes.append(
            f"Paper: {source()}; {published_budget(data)} rows. Order by {ORDERED_BY}: {agreeing} of "
            f"{agreeing + len(reversed_pairs)} pairs of methods as in the paper"
            + (
                f"; the other way round: {', '.join(f'{a} > {b}' for a, b in reversed_pairs)}."
                if reversed_pairs
                else "."
            )
        )
    return [line for note in notes for line in (note, "")]
