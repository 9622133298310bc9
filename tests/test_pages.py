"""Every block of code in README.md and docs/ runs, in the order of its page, on small data under the names it uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.writing import write_interactions
from pages import TEXTS, Block, blocks, commands

# What cannot run in a test, and why. It is still checked for commands and options (test_readme.py).
NOT_RUN = {
    r"pip install": "fetches packages, and would change the environment that runs the tests",
    r"--backend cuda": "needs a GPU",
    r"--preset published": "its budget is a number of rows of the authors' set, and its thousand epochs take hours",
    r"\$ALL": "every method there is takes minutes; test_baselines.py runs each",
}

# What is made smaller: the only difference between what a page says and what runs here.
SMALLER = {
    r"(--edges) \S+": r"\1 1e4,2e4",
    r"(--budgets) \S+": r"\1 0.3",
    r"(--seeds) \S+": r"\1 0",
    r"(--epochs) \S+": r"\1 1",
}

# The data sets that the pages name beside those they make or that are installed. DATA is a folder as LightGCN has it.
DATA_SETS = ("DATA", "beauty.npz", "gowalla.npz", "movielens-100k")


def runnable(page: str) -> list[Block]:
    """The blocks of a page as they run here."""
    return [_small(block) for block in blocks(TEXTS[page], "python", "sh")]


def _small(block: Block) -> Block:
    if block.language == "python":
        return block
    kept = [line for line in commands(block) if not any(re.search(pattern, line) for pattern in NOT_RUN)]
    code = "\n".join(kept)
    for pattern, smaller in SMALLER.items():
        code = re.sub(pattern, smaller, code)
    return block._replace(code=code)


RUN = [page for page in TEXTS if runnable(page)]


def _run(page: str, folder: Path) -> subprocess.CompletedProcess[str]:
    todo = runnable(page)
    clicks, _, _ = planted_coclusters(num_users=150, num_items=100, num_edges=1800, num_clusters=8, seed=0)
    split = random_split(clicks, seed=0)
    for name in DATA_SETS:
        if any(block.language == "sh" and re.search(rf"\b{re.escape(name)}\b", block.code) for block in todo):
            write_interactions(folder / name, split)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py"), page],
        input=json.dumps(todo),
        cwd=folder,
        env={**os.environ, "PATH": path, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path):
    run = _run(page, tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("patterns", [NOT_RUN, SMALLER], ids=["not run", "smaller"])
def test_no_exception_is_without_use(patterns: dict[str, str]):
    lines = [line for text in TEXTS.values() for block in blocks(text, "sh") for line in commands(block)]
    assert not [pattern for pattern in patterns if not any(re.search(pattern, line) for line in lines)]
