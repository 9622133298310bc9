"""A clustering as a notebook shows it: its figures in a small table, and the objective as a line."""

from __future__ import annotations

import html

import numpy as np

from baco_gpu.clustering.inspect.statistics import describe
from baco_gpu.clustering.result import ResultData

_WIDTH, _HEIGHT = 220, 60
_STYLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:1em 2em;align-items:center"


def result_card(result: ResultData) -> str:
    """HTML of sizes, compression, balance and the trace of the objective; it needs no file beside it."""
    description = describe(result, largest=0)
    summary, balance = description["summary"], description["balance"]
    share = result.parameters_compressed / max(result.table.full_parameters, 1)
    lines = {
        "graph": f"{len(result.users):,} users, {len(result.items):,} items, {result.num_edges:,} edges",
        "codebook": f"{result.codebook_rows:,} rows of {result.embedding_dim} "
        + (
            "for both sides" if result.shared else f"({result.users.rows:,} for users, {result.items.rows:,} for items)"
        ),
        "secondary clusters": f"{summary['secondary_users']:,} users, {summary['secondary_items']:,} items",
        "parameters": f"{result.parameters_compressed:,} of {result.table.full_parameters:,} ({share:.1%})",
        "bytes": f"{result.bytes_compressed:,} of {result.table.full_bytes:,}",
        "largest co-cluster": f"{balance['users']['largest']:,} users, {balance['items']['largest']:,} items",
        "Gini of sizes": f"{balance['users']['gini_sizes']:.2f} users, {balance['items']['gini_sizes']:.2f} items",
        "objective Q": f"{result.objective:,.1f} at gamma {result.gamma:.4g}",
    }
    rows = "".join(
        f'<tr><th style="text-align:left;padding-right:1em">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>'
        for name, text in lines.items()
    )
    return (
        f"<div><b>Co-clustering</b> of {result.num_clusters:,} co-clusters"
        f'<div style="{_SIDE_BY_SIDE}"><table style="{_STYLE}">{rows}</table>'
        f"{trace_svg(result.objective_trace)}</div></div>"
    )


def trace_svg(values: np.ndarray) -> str:
    """A line through the values as SVG; nothing for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = float(values.min()), float(values.max())
    across = np.linspace(4, _WIDTH - 4, len(values))
    down = _HEIGHT - 4 - (values - low) / ((high - low) or 1.0) * (_HEIGHT - 8)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return (
        f'<figure style="margin:0"><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="objective">'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.5"/></svg>'
        f"<figcaption>Q after each step: {low:,.1f} to {high:,.1f}</figcaption></figure>"
    )
