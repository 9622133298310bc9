"""How a command ends that fails late, and how names with markup in them are shown."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from baco_gpu.cli.console import ProgressDisplay
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import DeviceLostError
from baco_gpu.visible import visible

pytestmark = pytest.mark.heavy("runs commands")

NAME = "a [bold]$x_{$ \x1b[31m<b>&\u202e\n.csv"


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    interactions, _, _ = planted_coclusters(100, 80, 900, 5, noise=0.1, seed=3)
    path = tmp_path_factory.mktemp("data") / NAME
    lines = (f"$u{user}<i>\x1b,{item}\n" for user, item in zip(interactions.users, interactions.items, strict=True))
    path.write_text("user,item\n" + "".join(lines))
    return path


def raising(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_was_written_before_a_failure_is_told(baco, clicks, tmp_path, monkeypatch, error, code, what):
    out, labels = tmp_path / "codes.safetensors", tmp_path / "labels.csv"
    command = ("compress", clicks, "--budget", 0.5, "--out", out, "--labels", labels, "-q")
    monkeypatch.setattr("pyarrow.csv.CSVWriter", raising(error))
    got, stdout, stderr = baco(*command)
    assert (got, stdout) == (code, "")
    assert stderr.startswith(f"baco: error: {what}")
    assert stderr.endswith(f"; written before: {out}\n")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    monkeypatch.setattr("baco_gpu.clustering.result_file.save_file", raising(error))
    assert baco(*command)[2].endswith("; no output was written\n")


def test_a_gpu_that_is_lost_is_told_in_a_line_with_what_there_is(baco, clicks, tmp_path, monkeypatch):
    out, labels = tmp_path / "codes.safetensors", tmp_path / "labels.csv"
    monkeypatch.setattr("pyarrow.csv.CSVWriter", raising(DeviceLostError("cuda:0 has failed, and nothing more ...")))
    code, stdout, stderr = baco("compress", clicks, "--budget", 0.5, "--out", out, "--labels", labels, "-q")
    assert (code, stdout) == (1, "")
    assert stderr == f"baco: error: cuda:0 has failed, and nothing more ...; written before: {out}\n"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_after_a_failure_nothing_is_given_back_to_a_gpu_that_is_no_more():
    """Arrays that are torn down at the end of the process would each say that they cannot be."""
    code = (
        "import sys\n"
        "from baco_gpu.cli import main\n"
        "from baco_gpu.errors import DeviceLostError\n"
        "class Array:\n"
        "    def __del__(self): raise RuntimeError('cudaErrorIllegalAddress')\n"
        "kept = Array()\n"
        "def lost(*_, **__): raise DeviceLostError('cuda:0 has failed')\n"
        "main.app = lost\n"
        "sys.argv = ['baco', 'env']\n"
        "main.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "baco: error: cuda:0 has failed; no output was written\n")


def test_ctrl_c_after_all_is_written_says_what_there_is(baco, clicks, tmp_path, monkeypatch):
    out = tmp_path / "codes.safetensors"
    monkeypatch.setattr("baco_gpu.cli.compress.print_pairs", raising(KeyboardInterrupt()))
    code, _, stderr = baco("compress", clicks, "--budget", 0.5, "--out", out, "-q")
    assert code == 130
    assert stderr == f"baco: error: interrupted; written before: {out}, {tmp_path / 'codes.settings.yml'}\n"


@pytest.mark.parametrize("moment", ["atexit.register", "threading._register_atexit"])
def test_ctrl_c_as_the_process_ends_is_130_without_a_traceback(moment):
    code = (
        "import atexit, os, signal, sys, threading\n"
        f"{moment}(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from baco_gpu.cli import main\n"
        "sys.argv = ['baco', '--version']\n"
        "main.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("baco_gpu ")


@pytest.mark.parametrize(
    "command",
    [
        ("compress", "--out", "{}/x.safetensors"),
        ("compress", "--labels", "{}/x.csv"),
        ("train", "--export", "{}/x.safetensors"),
        ("train", "--checkpoint", "{}/x.safetensors"),
        ("train", "--tensorboard", "{}"),
        ("compare", "--out", "{}"),
        ("data describe", "--plot", "{}/x.png"),
        ("data convert", "{}/x.parquet"),
    ],
    ids=" ".join,
)
def test_an_output_folder_that_takes_no_files_is_noticed_before_the_work(baco, clicks, tmp_path, monkeypatch, command):
    words = [word.format(tmp_path) for word in command[1:]]
    with monkeypatch.context() as broken:
        refusing = {**vars(os), "open": raising(OSError(30, "Read-only file system"))}
        broken.setattr("baco_gpu.atomic.os", SimpleNamespace(**refusing))
        broken.setattr("baco_gpu.cli.options.Source.interactions", raising(AssertionError("the work has begun")))
        broken.setattr("baco_gpu.cli.options.Source.parts", raising(AssertionError("the work has begun")))
        budget = [] if command[0].startswith("data") else ["--budget", 0.5]
        code, stdout, stderr = baco(*command[0].split(), clicks, *words, *budget)
    assert (code, stdout) == (2, "")
    assert "no file can be made in the folder" in stderr
    assert "(Read-only file system)" in stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        ("compress DATA --labels DATA", "DATA"),
        ("train DATA --out x.safetensors --export ./x.safetensors", "--out"),
        ("train DATA --out x.safetensors --checkpoint x.safetensors", "--out"),
        ("train DATA --export x.safetensors --checkpoint x.safetensors", "--export"),
        ("train DATA --codes x.safetensors --out x.safetensors", "--codes"),
        ("train DATA --checkpoint DATA", "DATA"),
        ("recommend x.safetensors --users-from users.csv --out users.csv", "--users-from"),
        ("data convert DATA DATA", "DATA"),
        ("expand-model x.safetensors x.safetensors", "MODEL"),
    ],
)
def test_no_file_takes_the_place_of_another_of_the_command(baco, clicks, tmp_path, monkeypatch, command, taken):
    monkeypatch.chdir(tmp_path)
    before = clicks.read_bytes()
    code, stdout, stderr = baco(*(str(clicks) if word == "DATA" else word for word in command.split()))
    assert (code, stdout) == (2, "")
    assert f"expected another name than that of {taken}, got the same" in stderr
    assert clicks.read_bytes() == before
    assert not list(tmp_path.glob("x*"))


def test_names_are_shown_as_they_are(baco, clicks, tmp_path):
    shown = visible(clicks)
    assert shown.endswith(r"a [bold]$x_{$ \x1b[31m<b>&\u202e\n.csv")
    codes = tmp_path / f"{NAME}.safetensors"
    code, stdout, stderr = baco("compress", clicks, "--budget", 0.5, "--out", codes)
    assert code == 0
    assert f"co-clustering of {shown}" in stdout
    assert visible(codes) in stdout
    assert "\x1b" not in stdout + stderr
    code, stdout, stderr = baco("inspect", codes)
    assert code == 0, stderr
    assert r"<i>\x1b" in stdout
    assert "\x1b" not in stdout
    assert baco("compress", clicks, "--config", codes.with_suffix(".settings.yml"), "-q")[0] == 0
    code, stdout, stderr = baco("inspect", tmp_path / "\x1b[31m")
    assert (code, stdout) == (2, "")
    assert r"\x1b[31m: no such file" in stderr
    assert "\x1b" not in stderr


def test_pictures_and_pages_show_names_as_they_are(baco, clicks, tmp_path):
    picture, codes, page = tmp_path / "x.png", tmp_path / "<b>$x.safetensors", tmp_path / "page.html"
    code, _, stderr = baco("data", "describe", clicks, "--plot", picture, "-q")
    assert (code, stderr) == (0, "")
    assert picture.stat().st_size > 1000
    assert baco("compress", clicks, "--budget", 0.5, "--out", codes, "-q")[0] == 0
    assert baco("report", codes, "-o", page)[0] == 0
    text = page.read_text()
    assert "<h1>&lt;b&gt;$x.safetensors</h1>" in text
    assert "&lt;i&gt;\\x1b" in text
    assert "<i>\x1b" not in text


def test_progress_shows_names_as_they_are(capsys, monkeypatch):
    with ProgressDisplay(hidden=False) as display:
        display.report("read", 1, 2, NAME)
    assert capsys.readouterr().err == f"read 1/2: {visible(NAME)}\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_that_nobody_gets_is_a_failure(options):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "baco_gpu", "methods", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("baco: error: [Errno 28] No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.heavy("starts processes")
def test_streams_take_any_text_or_none(tmp_path):
    path = tmp_path / "ü.csv"
    path.write_text("user,item\n1,2\n")
    command = [sys.executable, "-m", "baco_gpu", "data", "describe", str(path), "-q"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert b"\\xfc.csv" in done.stdout
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")
