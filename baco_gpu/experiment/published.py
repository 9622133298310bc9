"""The figures that the paper gives for its methods, and the settings that it gives them for."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

# The published training, where ours has other defaults: arXiv 2604.18351, section 6.1, and the authors' configuration.
# Their weight decay of 1e-8 is Adam's own; either is too small to be felt.
TRAINING: dict[str, Any] = {
    "epochs": 1000,
    "batch_size": 1024,
    "learning_rate": 1e-3,
    "loss": "bpr",
    "weight_decay": 1e-8,
    "patience": 50,
    "lr_drops": 0,
    "embedding_std": 1.0,
}


@cache
def _table() -> dict[str, Any]:
    return json.loads(files("baco_gpu.experiment").joinpath("published.json").read_text(encoding="utf-8"))


def source() -> str:
    """Where the figures are from, in one line."""
    return str(_table()["source"])


def published_budget(data: str) -> int | None:
    """The published budget of a set, as codebook rows at whose parameters secondary indices count too; None if none."""
    known = _table()["sets"].get(data.lower())
    return None if known is None else int(known["budget_rows"])


def published_figures(data: str, model: str, method: str) -> dict[str, float]:
    """The published metrics of a method as fractions, under our names; empty where the paper has none."""
    table = _table()
    known = table["sets"].get(data.lower(), {}).get("percent", {})
    if model != table["model"] or method not in known:
        return {}
    return {name: value / 100 for name, value in zip(table["metrics"], known[method], strict=True)}
