"""A method is one file: that of CONTRIBUTING.md, and one that brings along a new way to store rows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from baco_gpu.budget import Budget
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.methods.method import Spec
from baco_gpu.tables.full import size_of
from graphs import random_graph
from pages import ROOT, blocks

HERE = Path(__file__).parent


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


@pytest.mark.heavy("trains models")
def test_a_method_with_a_table_and_a_decoder_of_its_own_is_one_file(tmp_path: Path):
    """Trained, resumed, saved, exported, loaded, rebuilt and compressed by, in a process that has it in a folder."""
    folder, data = tmp_path / "dropped in", tmp_path / "clicks.csv"
    folder.mkdir()
    shutil.copy(HERE / "low_rank.py", folder)
    interactions, _, _ = planted_coclusters(120, 80, 1500, 6, seed=3)
    pd.DataFrame({"user": interactions.users, "item": interactions.items}).to_csv(data, index=False)
    script = HERE / "run_low_rank.py"
    dropped = f"import baco_gpu.methods; baco_gpu.methods.__path__.append({str(folder)!r})"
    code = f"import runpy, sys; {dropped}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    run = subprocess.run(
        [sys.executable, "-c", code, script, data], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
