"""Files are whole or not there: whatever goes wrong, the old file stays and nothing is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from baco_gpu import atomic
from baco_gpu.atomic import check_writable, make_folder, noting_written, replacing
from baco_gpu.errors import InputError


@pytest.fixture
def umask():
    """Set the umask for one test."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


def test_a_new_file_appears_only_when_complete(tmp_path):
    target = tmp_path / "new.json"
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["new.json"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "old.json"
    target.write_text("old")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["old.json"]


def test_a_writer_may_replace_or_remove_the_temporary_itself(tmp_path):
    target = tmp_path / "file.bin"
    with replacing(target) as temporary:
        temporary.unlink()
        temporary.write_bytes(b"again")
    assert target.read_bytes() == b"again"

    def remove():
        with replacing(target) as temporary:
            temporary.unlink()

    with pytest.raises(FileNotFoundError):
        remove()
    assert target.read_bytes() == b"again"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("private_writer", [False, True])
def test_permissions_follow_the_umask(tmp_path, umask, mask, mode, private_writer):
    umask(mask)
    target = tmp_path / "file"
    with replacing(target) as temporary:
        if private_writer:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        temporary.write_text("x")
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    with replacing(link) as temporary:
        assert temporary.parent == real.parent  # the rename must not cross file systems
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert os.listdir(real.parent) == ["real.json"]


def test_a_dangling_link_gets_its_file(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "later.json")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "later.json").read_text() == "new"


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("plain.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "plain.txt").read_text() == "x"


def test_names_as_long_as_the_file_system_allows(tmp_path):
    target = tmp_path / ("n" * 250 + ".json")
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert target.read_text() == "x"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"the folder .*absent does not exist$"), replacing(tmp_path / "absent" / "f"):
        pytest.fail("the block must not run")
    assert not any(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="got a folder"), replacing(tmp_path):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("letter", ["n", "é", "日", "😀"])
@pytest.mark.parametrize("suffix", [".json", "", ".日本" * 20])
def test_long_names_of_any_letters(tmp_path, letter, suffix):
    room = 255 - len(os.fsencode(suffix))
    target = tmp_path / (letter * (room // len(letter.encode())) + suffix)
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == [target.name]


def test_a_name_that_is_no_utf8(tmp_path):
    target = tmp_path / os.fsdecode(b"\xff" * 200 + b".bin")
    with replacing(target) as temporary:
        temporary.write_bytes(b"x")
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(target.name)]


KILLED = """
import os, signal, sys
from baco_gpu import atomic
from baco_gpu.atomic import check_writable, noting_written, replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.heavy("starts a process")
def test_what_a_killed_process_left_goes_with_the_next_write_of_that_file(tmp_path):
    target, other = tmp_path / "a.json", tmp_path / "b.json"
    for path in (target, other):
        assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    with replacing(target) as mine, replacing(target) as theirs:  # of processes that live
        assert mine != theirs
        assert mine.exists()
        mine.write_text("mine")
        theirs.write_text("theirs")
    left = sorted(os.listdir(tmp_path))
    assert left[1:] == ["a.json"]
    assert left[0].startswith(".b.")
    with replacing(other) as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


def test_what_another_machine_left_goes_after_a_day(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(atomic, "_machine", lambda: "f" * 8)
        names = [tmp_path / atomic._temporary_name(target) for _ in range(2)]
    for name in names:
        name.touch()
    os.utime(names[0], (0, time.time() - 90_000))
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert [name.exists() for name in names] == [False, True]


def test_a_folder_that_takes_no_files_is_noticed_without_a_trace(tmp_path, monkeypatch):
    check_writable(tmp_path / "a.json")
    assert not any(tmp_path.iterdir())

    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("baco_gpu.atomic.os.open", refuse)
    with pytest.raises(InputError, match=r"a\.json: no file can be made in the folder .* \(Read-only file system\)"):
        check_writable(tmp_path / "a.json")


def test_a_folder_is_made_where_it_can_be(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not any((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(InputError, match=f"{path.name}: the folder cannot be made "):
            make_folder(path)


def test_what_is_written_is_told(tmp_path):
    with noting_written() as written:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
        with pytest.raises(ValueError, match="half"), replacing(tmp_path / "b"):
            raise ValueError("half")
        assert written == [tmp_path / "a"]
    with replacing(tmp_path / "c") as temporary:
        temporary.write_text("x")
    assert written == [tmp_path / "a"]
