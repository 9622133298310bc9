"""The example of CONTRIBUTING.md is a method: it meets a budget, and is charged for what it stores."""

from __future__ import annotations

from typing import Any

import pytest

from baco_gpu.budget import Budget
from baco_gpu.methods.method import Spec
from baco_gpu.tables.full import size_of
from graphs import random_graph
from pages import ROOT, blocks


@pytest.mark.parametrize("budget", [0.25, 30])
def test_the_example_makes_tables_of_a_budget(budget: float):
    page = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")
    (example,) = [block for block in page if "METHOD = Labelled" in block.code]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(example.code, namespace)
    graph = random_graph(80, 40, 400, seed=0)
    built = namespace["METHOD"].build(graph, Spec(embedding_dim=8), Budget.of(budget), 0)
    assert [table.num_embeddings for table in built.tables.values()] == [80, 40]
    assert size_of(*built.tables.values()).rows == 30
