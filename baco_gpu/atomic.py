"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baco_gpu.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it takes that name, otherwise it is removed.

    Whatever stood under `path` before stays untouched until the new file is complete and on the disk, so that a
    full disk, an error or an interrupt loses nothing. It gets the permissions of an ordinary new file. A symbolic
    link stays one: the file that it points to is replaced.

    Raises
    ------
    InputError
        If `path` is a folder, or lies in a folder that does not exist.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist")
    temporary = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(8)}{target.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        permissions = temporary.stat().st_mode
        yield temporary
        # A writer that puts a file of its own in this place may have made it one that only the owner can read.
        temporary.chmod(permissions)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
