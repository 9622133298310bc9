"""README.md is true: its Python runs, its commands and options exist, its files and rooms are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from baco_gpu import CoclusteringResult
from baco_gpu.cli.main import app
from test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    shell = [line for block in blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`(baco [^`]*)`", README)
    return [line for line in [*shell, *inline] if len(line.split()) > 1]


def test_the_python_example_runs(tmp_path: Path):
    (example,) = blocks("python")
    run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = CoclusteringResult.load(tmp_path / "codes.safetensors")
    assert result.parameters_compressed <= 0.25 * result.table.full_parameters
    assert run.stdout.splitlines()[-1] == str(result.parameters_compressed)


@pytest.mark.parametrize("line", command_lines())
def test_every_command_and_option_exists(line: str):
    command = typer.main.get_command(app)
    _, *arguments = shlex.split(line, comments=True)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    used = [argument for argument in arguments if argument.startswith("-")]
    used += re.findall(r"--[a-z-]+", line.partition("#")[2])
    assert set(used) <= known


@pytest.mark.parametrize("target", re.findall(r"`make ([a-z]+)`", README))
def test_every_make_target_exists(target: str):
    assert re.search(rf"^{target}:.*## \w", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^):]+)\)", README))
def test_every_link_leads_somewhere(path: str):
    assert (ROOT / path).exists()


def test_the_rooms_are_those_of_the_package_in_their_order():
    assert re.findall(r"^\| `baco_gpu/(\w+)`", README, re.MULTILINE) == [room for room in ROOMS if room != "__main__"]


def test_the_demo_command_exists():
    (demo,) = re.findall(r"^DEMO = (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    test_every_command_and_option_exists(f"baco {demo}")
