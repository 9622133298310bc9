"""Commands of which a launcher has started several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baco_gpu import CoclusteringResult
from graphs import random_graph

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clicks(tmp_path):
    """A table of interactions."""
    graph = random_graph(120, 90, 700, seed=1)
    users = np.repeat(np.arange(graph.num_users), graph.user_degrees)
    lines = [f"u{user},i{item}" for user, item in zip(users, graph.csr.neighbors, strict=True)]
    file = tmp_path / "clicks.csv"
    file.write_text("\n".join(["user,item", *lines]))
    return file


def torchrun(*arguments, processes=2):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    command = [*launcher, "-m", "baco_gpu", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", [("train", "movielens-100k"), ("methods",), ("data", "describe", "x.csv")])
def test_commands_that_cannot_share_their_work_are_refused(baco, monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = baco(*command)
    assert (code, out) == (2, "")
    assert err == (
        f"baco: error: {command[0]} works in one process: expected no WORLD_SIZE in the environment, or 1, got 2 (does "
        "torchrun start it?)\n"
    )


def test_one_process_of_a_launcher_is_as_good_as_none(baco, monkeypatch, clicks):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert baco("data", "describe", clicks, "--quiet")[0] == 0
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert baco("methods")[2] == (
        "baco: error: the environment variable WORLD_SIZE must be an integer at least 1, got 'two'\n"
    )


@pytest.mark.heavy("starts processes")
class TestTorchrun:
    def test_all_cluster_and_the_first_writes(self, baco, clicks, tmp_path):
        alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
        code, out, _ = baco("compress", clicks, "--out", alone, "--json")
        assert code == 0
        done = torchrun("compress", clicks, "--out", together, "--json")
        assert done.returncode == 0, done.stderr
        one, several = json.loads(out), json.loads(done.stdout)
        for summary in (one, several):
            summary.pop("seconds")
        assert several == one
        expected, found = CoclusteringResult.load(alone), CoclusteringResult.load(together)
        assert found.labels_sha256 == expected.labels_sha256
        assert found.settings == expected.settings

    @pytest.mark.nightly("starts processes for each fault")
    def test_a_full_disk_ends_all_and_is_told_by_all(self, clicks):
        done = torchrun("compress", clicks, "--out", "/dev/full.safetensors", "--quiet")
        assert done.returncode == 1
        assert not Path("/dev/full.safetensors").exists()

    @pytest.mark.nightly("starts processes for each fault")
    def test_a_missing_file_is_told_in_a_line_a_rank(self, tmp_path):
        done = torchrun("compress", tmp_path / "none.csv")
        assert done.returncode == 1
        assert done.stderr.count(f"baco: error: {tmp_path / 'none.csv'}") == 2
