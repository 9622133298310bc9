"""Every block of code in README.md and docs/ runs, in the order of its page, on small data under the names it uses."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template

import pytest

from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.writing import write_interactions
from pages import ROOT, TEXTS, Block, blocks, commands
from tiers import full

# What cannot run in a test, and why. It is still checked for commands and options (test_readme.py).
NOT_RUN = {
    r"pip install": "fetches packages, and would change the environment that runs the tests",
    r"--backend cuda": "needs a GPU",
    r"^torchrun": "starts processes; tests/cli/test_launched.py starts them",
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

# A training to its end says no more of a page than one epoch does: nightly runs alone have patience for it.
ONE_EPOCH = r"^baco (train|compare) (?!.*--epochs)", r"baco \1 --epochs 1 "

# Pages that say how figures came about. Nobody goes through them from top to bottom: their trainings run in the nightly
# tier alone, and in the others each is planned, which reads its data and checks all that it is told.
RECORDS = [page for page in TEXTS if page.startswith("docs/quality")]

# Pages whose packages the nightly tier alone installs: each runs in a process of its own.
RARE = ("docs/lightning.md", "docs/recbole.md", "docs/torch-geometric.md")

# A page that is a script for several processes: tests/tables/test_torchrec.py starts them.
LAUNCHED = ("docs/torchrec.md",)

# The data sets that the pages name beside those they make or that are installed. DATA is a folder as LightGCN has it.
DATA_SETS = ("DATA", "amz_items.npz", "beauty.npz", "gowalla.npz", "movielens-100k")


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
    code = full(code, re.sub(*ONE_EPOCH, code, flags=re.MULTILINE))
    return block._replace(code=code)


RUN = [page for page in TEXTS if runnable(page) and page not in LAUNCHED]


@pytest.fixture
def data_sets(page: str, tmp_path: Path) -> Path:
    """A folder with small data under the names that the shell of the page uses; its Python makes its own."""
    shell = "\n".join(block.code for block in runnable(page) if block.language == "sh")
    clicks, _, _ = planted_coclusters(num_users=150, num_items=100, num_edges=1800, num_clusters=8, seed=0)
    split = random_split(clicks, seed=0)
    for name in DATA_SETS:
        if re.search(rf"\b{re.escape(name)}\b", shell):
            write_interactions(tmp_path / name, split)
    return tmp_path


def _run_shell(code: str, baco: Callable[..., tuple[int, str, str]], *, plan: bool) -> None:
    """The lines of a block of shell: variables, and commands of ours, in this process."""
    variables: dict[str, str] = {}
    for line in filter(None, re.split(r"(?<!\\)\n", code)):
        if assignment := re.fullmatch(r'([A-Z]+)="?([^"]*)"?', line):
            variables[assignment[1]] = assignment[2]
            continue
        program, *arguments = shlex.split(Template(line).substitute(variables).replace("\\\n", " "), comments=True)
        assert program == "baco", f"what is run here are our own commands, got {line!r}"
        if plan:
            assert arguments[0] == "compare", f"a record is a comparison, got {line!r}"
            arguments.append("--dry-run")
        exit_code, _, stderr = baco(*arguments)
        assert exit_code == 0, f"{line}\n{stderr}"


@pytest.mark.heavy("runs pages")
@pytest.mark.parametrize("page", [page for page in RUN if page not in RARE])
def test_a_page_runs_from_top_to_bottom(
    page: str, data_sets: Path, baco: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(data_sets)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, code, line in runnable(page):
        if language == "sh":
            _run_shell(code, baco, plan=page in RECORDS)
        else:  # Python goes on in one namespace, as in a notebook, and tracebacks name the line of the page.
            exec(compile("\n" * line + code, page, "exec"), namespace)


@pytest.mark.nightly("runs pages in processes of their own, their records too")
@pytest.mark.parametrize("page", RUN)
def test_a_page_runs_in_a_shell(page: str, data_sets: Path):
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py"), page],
        input=json.dumps(runnable(page)),
        cwd=data_sets,
        env={**os.environ, "PATH": path, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("patterns", [NOT_RUN, SMALLER], ids=["not run", "smaller"])
def test_no_exception_is_without_use(patterns: dict[str, str]):
    lines = [line for text in TEXTS.values() for block in blocks(text, "sh") for line in commands(block)]
    assert not [pattern for pattern in patterns if not any(re.search(pattern, line) for line in lines)]


@pytest.mark.parametrize("pages", [RARE, LAUNCHED], ids=["rare", "launched"])
def test_no_page_is_left_to_others_in_vain(pages: tuple[str, ...]):
    assert [page for page in pages if not blocks(TEXTS.get(page, ""), "python")] == []


@pytest.mark.parametrize("page", TEXTS)
def test_tables_stand_between_blank_lines(page: str):
    """A line right below a table is drawn as a row of it, and a table right below a line is drawn as text."""
    lines = re.sub(r"^```.*?^```$", "```", TEXTS[page], flags=re.M | re.S).split("\n")
    for line, following in itertools.pairwise(lines):
        if "" not in (line, following) and not line.startswith("<!--"):
            assert line.startswith("|") == following.startswith("|"), f"{line}\n{following}"


def test_every_file_that_contributing_names_is_there():
    named = re.findall(r"`([\w./]+\.(?:py|md|cfg|toml|ya?ml))`", (ROOT / "CONTRIBUTING.md").read_text())
    there = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.*") if ".venv" not in path.parts]
    assert named
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []
