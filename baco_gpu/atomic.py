"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from baco_gpu.checks import check_path
from baco_gpu.errors import InputError

# Bytes of a stem and of a suffix in a temporary name: with what stands between them it fits into any file system.
_LONGEST = 40
_ABANDONED = 86400.0  # seconds since the last write, of a machine or a container that cannot be asked

_written: list[Path] | None = None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it takes that name, otherwise it is removed.

    Whatever stood under `path` before stays untouched until the new file is complete and on the disk, so that a
    full disk, an error or an interrupt loses nothing. It gets the permissions of an ordinary new file. A symbolic
    link stays one: the file that it points to is replaced. What a process that was killed had begun to write under
    `path` is removed.

    Raises
    ------
    InputError
        If `path` is a folder, or lies in a folder that does not exist.
    """
    target = _target(path)
    _remove_abandoned(target)
    temporary = target.with_name(_temporary_name(target))
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        permissions = temporary.stat().st_mode
        yield temporary
        # A writer that puts a file of its own in this place may have made it one that only the owner can read.
        temporary.chmod(permissions)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        note_written(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise InputError unless a file can be made under `path`: what only making one tells, it leaves nothing behind."""
    target = _target(path)
    temporary = target.with_name(_temporary_name(target))
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(f"{path}: no file can be made in the folder {target.parent} ({error.strerror})") from error
    temporary.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder, made where it is not there; InputError unless it can be, and files in it."""
    folder = check_path("path", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be made ({error.strerror})") from error
    check_writable(folder / "file")
    return folder


def note_written(path: str | os.PathLike[str]) -> None:
    """Tell `noting_written` of a file, or a folder of them, that is there now."""
    if _written is not None and Path(path) not in _written:
        _written.append(Path(path))


@contextmanager
def noting_written() -> Iterator[list[Path]]:
    """The files that are written while the block lasts, in a list that grows."""
    global _written
    before, _written = _written, []
    try:
        yield _written
    finally:
        _written = before


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(os.path.realpath(check_path("path", path)))
    if target.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist")
    return target


def _temporary_name(target: Path) -> str:
    begin, end = _ends(target)
    return f"{begin}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{end}"


def _ends(target: Path) -> tuple[str, str]:
    """How the temporary names of a file begin and end: the same for no other file."""
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
    return f".{_cut(target.stem)}.{name}-", _cut(target.suffix)


def _cut(text: str) -> str:
    """The beginning of a name, counted in bytes, in whole letters."""
    return os.fsencode(text)[:_LONGEST].decode(sys.getfilesystemencoding(), "ignore")


def _machine() -> str:
    """What tells processes apart that have numbers of their own: machines since they were started, and containers."""
    parts = [os.uname().nodename if hasattr(os, "uname") else ""]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of `target` whose process has ended, or that nobody has written to for a day."""
    begin, end = _ends(target)
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(begin) and entry.name.endswith(end):
                words = entry.name[len(begin) : len(entry.name) - len(end)].split("-")
                if len(words) == 3 and _is_abandoned(entry, *words[:2]):
                    with suppress(OSError):
                        os.unlink(entry.path)


def _is_abandoned(entry: os.DirEntry[str], machine: str, process: str) -> bool:
    if os.name == "posix" and machine == _machine() and process.isdecimal():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False
    with suppress(OSError):
        return time.time() - entry.stat().st_mtime > _ABANDONED
    return False
