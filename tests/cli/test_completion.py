"""TAB in a shell: what the command line offers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from baco_gpu.cli import completion

pytestmark = pytest.mark.heavy("runs commands")


@pytest.fixture
def tab(tmp_path):
    """The words that bash would offer for a command line whose last word is unfinished."""

    def offered(*words):
        environment = {
            **os.environ,
            "_BACO_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["baco", *words]),
            "COMP_CWORD": str(len(words)),
        }
        program = "import sys; sys.argv[0] = 'baco'; from baco_gpu.cli.main import run; run()"
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return offered


def test_bash_is_offered_commands_options_values_and_data(tab, tmp_path):
    for name in ("clicks.parquet", "clicks.doc", "movies.csv"):
        (tmp_path / name).touch()
    (tmp_path / "mo").mkdir()
    assert tab("com") == ["compress", "compress-model", "compare"]
    assert tab("compress", "x.csv", "--budget-") == ["--budget-rows", "--budget-measure"]
    assert tab("compress", "x.csv", "--solver", "m") == ["multilevel"]
    assert {"movielens-100k", "mo/", "movies.csv"} <= set(tab("train", "mo"))
    assert tab("train", "cl") == ["clicks.parquet"]


def test_names_after_a_comma_are_completed_once_each():
    complete = completion.several_of("baco_gpu.data.readers:SPLITS")
    assert complete("") == ["random", "leave-last-out", "temporal"]
    assert complete("random,l") == ["random,leave-last-out"]
    assert complete("random,temporal,") == ["random,temporal,leave-last-out"]
    assert complete("x") == []


def test_only_files_of_the_right_kind_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.YML", "a.yaml", "a.txt", "[a].yml"):
        (tmp_path / name).touch()
    complete = completion.files_of(".yml", ".yaml")
    assert complete("a") == ["a.YML", "a.yaml"]
    assert complete("[") == ["[a].yml"]
    assert complete("nowhere/") == []


@pytest.mark.parametrize(
    ("command", "option", "word", "expected"),
    [
        ("train", "--model", "m", ["mf"]),
        ("train", "--method", "fu", ["full", "full:sharded"]),
        ("compare", "--methods", "full,rand", ["full,random"]),
        ("compress", "--weights", "s", ["sqrt"]),
        ("compress", "--secondary", "b", ["both"]),
        ("compress", "--budget-measure", "b", ["bytes"]),
        ("compress", "--backend", "cp", ["cpu"]),
        ("train", "--split", "l", ["leave-last-out"]),
        ("train", "--embedding-init", "s", ["spectral"]),
        ("train", "--loss", "s", ["softmax"]),
        ("train", "--codebook-dtype", "int7", ["int7"]),
        ("train", "--weighting", "r", ["recency"]),
    ],
)
def test_values_of_options_are_those_that_the_package_knows(command, option, word, expected):
    from typer.main import get_command

    from baco_gpu.cli.main import app

    group = get_command(app)
    parameter = next(each for each in group.commands[command].params if option in each.opts)
    with group.make_context("baco", [], resilient_parsing=True) as context:
        items = parameter.shell_complete(context, word)
    assert [item.value for item in items] == expected
