"""Commands of which a launcher has started several processes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from baco_gpu import CoclusteringResult
from baco_gpu.cli.launched import launched
from baco_gpu.errors import InputError, RankError
from distributed import tables
from distributed.tables import in_files
from graphs import random_graph, write_clicks

ROOT = Path(__file__).parents[2]
_TRAINING = "--batch-size", "256", "--evaluate-every", "1", "--epochs", "3"
_FACTS = "method", "model", "codebook_rows", "parameters", "bytes", "epochs"


@pytest.fixture
def clicks(tmp_path):
    """A table of interactions."""
    return write_clicks(tmp_path / "clicks.csv", random_graph(120, 90, 700, seed=1))


def torchrun(*arguments, restarts=0, **options):
    """The launch of two processes, which has begun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    launcher.append(f"--max-restarts={restarts}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    command = [*launcher, "-m", "baco_gpu", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(launch):
    """Exit code, stdout and stderr."""
    out, errors = launch.communicate(timeout=300)
    return launch.returncode, out, errors


@pytest.mark.parametrize("command", [("compare", "movielens-100k"), ("methods",), ("data", "describe", "x.csv")])
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


def test_what_torchrun_sets_beside_the_number_of_processes_is_asked_for(baco, monkeypatch, clicks):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    code, _, err = baco("compress", clicks)
    assert code == 2
    assert err.startswith("baco: error: WORLD_SIZE is 2, and processes meet by what torchrun sets beside it: ")
    assert "RANK expected, but not set" in err


class TestGPUs:
    """Of two GPUs each process takes that of its local rank."""

    @pytest.fixture(autouse=True)
    def two(self, monkeypatch):
        self.taken = []
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "set_device", lambda number: self.taken.append(("torch", number)))
        device = lambda number: SimpleNamespace(use=lambda: self.taken.append(("cupy", number)))  # noqa: E731
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=device)))

        def meet(kind, timeout):
            self.taken.append(kind)
            raise RuntimeError("enough")

        monkeypatch.setattr("baco_gpu.distributed.meeting.join_group", meet)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)

    @pytest.mark.parametrize("rank", [0, 1])
    def test_each_takes_its_own_and_they_meet_over_nccl(self, monkeypatch, rank):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        with pytest.raises(RankError, match="enough"), launched("cuda", 1.0):
            pass
        assert self.taken == [("torch", rank), ("cupy", rank), "nccl"]

    @pytest.mark.parametrize(
        ("rank", "backend", "expected"),
        [
            ("2", "cuda", r"expected LOCAL_RANK below 2, the number of GPUs that PyTorch sees, got 2"),
            ("x", "cuda", r"the environment variable LOCAL_RANK must be an integer at least 0, got 'x'"),
            ("1", "cuda:0", r"each of several processes works on the GPU of its local rank: expected cuda, got cuda:0"),
        ],
    )
    def test_what_is_not_each_ones_own_is_refused_before_they_meet(self, monkeypatch, rank, backend, expected):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(InputError, match=expected), launched(backend, 1.0):
            pass
        assert self.taken == []


@pytest.mark.heavy("starts processes")
class TestTorchrun:
    def test_all_cluster_and_the_first_writes(self, baco, tmp_path):
        clicks = in_files(tmp_path / "clicks", tables.clicks(800))
        alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
        command = "compress", clicks, "--min-rating", "2", "--core", "3", "--json", "--out"
        code, out, _ = baco(*command, alone)
        assert code == 0
        code, printed, errors = ended(torchrun(*command, together))
        assert code == 0, errors
        one, several = json.loads(out), json.loads(printed)
        for summary in (one, several):
            summary.pop("seconds")
        assert several == one
        expected, found = CoclusteringResult.load(alone), CoclusteringResult.load(together)
        assert found.labels_sha256 == expected.labels_sha256
        assert found.settings == expected.settings
        assert (found.users.vocabulary, found.items.vocabulary) == (
            expected.users.vocabulary,
            expected.items.vocabulary,
        )

    def test_all_train_and_the_first_writes(self, baco, clicks, tmp_path):
        alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
        command = "train", clicks, "--model", "mf", "--method", "baco-multilevel", *_TRAINING, "--json", "--out"
        code, out, _ = baco(*command, alone)
        assert code == 0
        code, printed, errors = ended(torchrun(*command, together))
        assert code == 0, errors
        one, several = json.loads(out), json.loads(printed)
        assert several.keys() == one.keys()
        assert [several[name] for name in _FACTS] == [one[name] for name in _FACTS]
        ours, expected = load_file(together), load_file(alone)
        assert ours.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-6)

    def test_full_tables_are_the_same_where_each_process_has_some_of_their_rows(self, tmp_path):
        clicks = write_clicks(tmp_path / "clicks.csv", random_graph(120, 90, 1500, seed=1))
        whole, shared = tmp_path / "whole.safetensors", tmp_path / "shared.safetensors"
        command = "train", clicks, "--model", "mf", *_TRAINING
        for method, out in (("full", whole), ("full:sharded", shared)):
            code, _, errors = ended(torchrun(*command, "--method", method, "--out", out))
            assert code == 0, errors
        ours, expected = load_file(shared), load_file(whole)
        assert ours.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(ours[name], array)

    @pytest.mark.nightly("starts processes for each fault")
    @pytest.mark.parametrize("method", ["full", "full:sharded"])
    def test_a_killed_rank_is_started_again_and_goes_on_from_the_checkpoint(self, tmp_path, method):
        clicks = write_clicks(tmp_path / "clicks.csv", random_graph(3000, 2000, 60_000, seed=1))
        kept, out, without = (tmp_path / name for name in ("run.safetensors", "out.safetensors", "without.safetensors"))
        command = "train", clicks, "--model", "mf", "--method", method, *_TRAINING[:-1], "12", "--patience", "30"
        launch = torchrun(*command, "--checkpoint", kept, "--out", out, restarts=1)
        said = ""
        while not re.search(r"training [3-9]/12", said):  # lines come once in a while, not after every epoch
            line = launch.stderr.readline()
            assert line, said
            said += line
        os.kill(_ranks(launch)["1"], signal.SIGKILL)
        code, _, errors = ended(launch)
        assert code == 0, errors
        assert "training 1/12" not in errors
        code, _, errors = ended(torchrun(*command, "--out", without))
        assert code == 0, errors
        ours, expected = load_file(out), load_file(without)
        for name, array in expected.items():
            np.testing.assert_array_equal(ours[name], array)

    @pytest.mark.nightly("starts processes for each fault")
    def test_ranks_that_are_to_train_differently_are_told_before_they_read(self, tmp_path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        known = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "baco_gpu", "train", str(tmp_path / "none.csv"), "--epochs"]
        launches = [
            subprocess.Popen(
                [*command, str(3 + rank)],
                env={**known, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        for launch in launches:
            _, _, errors = ended(launch)
            assert "baco: error: epochs must be the same on every rank, got 3 on rank 0 and 4 on rank 1" in errors

    @pytest.mark.nightly("starts processes for each fault")
    def test_a_full_disk_ends_all_and_is_told_by_all(self, tmp_path):
        clicks = write_clicks(tmp_path / "clicks.csv", random_graph(3000, 2000, 12_000, seed=1))
        out, run = tmp_path / "codes.safetensors", tmp_path / "run"

        def little_room():
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

        code, _, errors = ended(torchrun("compress", clicks, "--out", out, "--quiet", preexec_fn=little_room))
        assert code == 1
        assert errors.count(f"baco: error: rank 0: {out}: cannot be written") == 2
        assert not out.exists()
        command = "train", clicks, "--model", "mf", "--method", "full:sharded", *_TRAINING, "--checkpoint", run
        code, _, errors = ended(torchrun(*command, "--quiet", preexec_fn=little_room))
        assert code == 1
        lines = [line for line in errors.splitlines() if line.startswith("baco: error: ")]
        assert len(lines) == 2
        assert all(f"{run}: the checkpoint cannot be written (rank " in line and len(line) < 500 for line in lines)
        assert not list(run.iterdir())

    @pytest.mark.nightly("starts processes for each fault")
    def test_a_missing_file_is_told_in_a_line_a_rank(self, tmp_path):
        code, _, errors = ended(torchrun("compress", tmp_path / "none.csv"))
        assert code == 1
        assert errors.count(f"baco: error: {tmp_path / 'none.csv'}") == 2

    @pytest.mark.nightly("starts processes for each fault")
    def test_a_killed_rank_is_named_by_the_other(self, tmp_path):
        clicks = write_clicks(tmp_path / "clicks.csv", random_graph(30_000, 20_000, 300_000, seed=1))
        out = tmp_path / "codes.safetensors"
        launch = torchrun("compress", clicks, "--out", out, "--gamma", "50", "--budget-rows", "100")
        before = ""
        while "clustering" not in before:
            line = launch.stderr.readline()
            assert line, before
            before += line
        ranks = _ranks(launch)
        os.kill(ranks["1"], signal.SIGKILL)
        code, _, errors = ended(launch)
        assert code == 1
        assert f"baco: error: rank 1 (process {ranks['1']} on " in errors
        assert not out.exists()


def _ranks(launch):
    """The processes of a launch, by their ranks."""
    children = Path(f"/proc/{launch.pid}/task/{launch.pid}/children").read_text().split()
    return {dict(_environment(child))["RANK"]: int(child) for child in children}


def _environment(process):
    return (entry.split("=", 1) for entry in Path(f"/proc/{process}/environ").read_text().split("\0") if entry)
