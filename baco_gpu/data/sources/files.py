"""Which files a source names: paths, folders, patterns, lists of them, here or on a remote file system."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from baco_gpu.data.sources.where import Condition, kept
from baco_gpu.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileInfo, FileSystem

COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".br")
_OF_A_URI = "%/?&=*:@!$'()+,;~#"  # what a path and a query of an address may have beside letters and digits
_PATTERN = re.compile(r"[*?\[]")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file: `name` is what errors call it, `path` where its file system has it.

    `keys` is what the names of its folders say, such as {"dt": "2026-01-01"} for `dt=2026-01-01` (Hive's partitions).
    """

    name: str
    path: str
    filesystem: FileSystem
    keys: dict[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def suffixes(self) -> tuple[str, str]:
        """The suffix that says the format, and the one that says how the file is compressed, if it is."""
        path = PurePosixPath(self.path)
        outer = path.suffix.lower()
        return (PurePosixPath(path.stem).suffix.lower(), outer) if outer in COMPRESSED else (outer, "")

    def open(self) -> pa.NativeFile:
        """The content as a stream, decompressed where the suffix says that it is compressed."""
        import pyarrow as pa

        outer = self.suffixes[1]
        compression = pa.Codec.detect(f"x{outer}").name if outer else None
        return self.filesystem.open_input_stream(in_bytes(self.path), compression=compression)


@dataclass(frozen=True)
class Files:
    """The files of one table, in their order; `name` is what errors call all of them."""

    name: str
    members: tuple[File, ...]

    def __str__(self) -> str:
        return self.name

    @property
    def keys(self) -> dict[str, list[Any]]:
        """What the folders of the files say: a value a file, None where it has none.

        They are integers where all of them are, unless two would be one: 7 and 007.
        """
        columns: dict[str, list[Any]] = {}
        for key in dict.fromkeys(key for file in self.members for key in file.keys):
            values = [file.keys.get(key) for file in self.members]
            whole = all(value is None or re.fullmatch(r"-?\d{1,18}", value, re.ASCII) for value in values)
            whole = whole and len({value and int(value) for value in values}) == len(set(values))
            columns[key] = [int(value) if whole and value is not None else value for value in values]
        return columns

    def that(self, where: Sequence[Condition]) -> Files:
        """The files whose folders fulfil conditions on keys; InputError where none does."""
        import pyarrow as pa

        if not where:
            return self
        places = pa.table({**self.keys, "": range(len(self.members))})
        chosen = kept(self.name, where, places).column("").to_pylist()
        if not chosen:
            told = " and ".join(map(str, where))
            raise InputError(f"{self.name}: where must leave a file, got {told!r}, and there are {self._shown(where)}")
        return replace(self, members=tuple(self.members[at] for at in chosen))

    def _shown(self, where: Sequence[Condition], most: int = 5) -> str:
        key = where[0].column
        values = list(dict.fromkeys(f"{key}={value}" for value in self.keys[key]))
        return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def in_bytes(path: str) -> bytes:
    """A path as file systems of Arrow take it, whatever its bytes: a string would have to be of UTF-8."""
    return os.fsencode(path)


def is_path(source: Any) -> bool:
    """Whether a source is a path, a pattern or an address of files, or a list of them."""
    if isinstance(source, (list, tuple)):
        return bool(source) and all(isinstance(one, (str, os.PathLike)) for one in source)
    return isinstance(source, (str, os.PathLike))


def is_elsewhere(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pattern or an address, and not one that must be there as it is written."""
    return "://" in os.fspath(path) or (_PATTERN.search(os.fspath(path)) is not None and not os.path.exists(path))


def find_files(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Files:
    """The files that a path, a folder, a pattern (`*`, `?`, `[...]`, and `**` for any folders) or a list names.

    What has a scheme (`s3://bucket/clicks/`) lies on another file system, of Arrow or, where that knows no such scheme,
    of fsspec. Of a folder it is all files in it and in its folders, but for names that begin with a dot or an
    underscore. Folders and patterns are in the order of their paths.

    Raises
    ------
    InputError
        If there is no such file, a folder is empty, or the file system cannot be reached; the message names it.
    """
    if isinstance(source, (str, os.PathLike)):
        return _find(os.fspath(source))
    found = [_find(os.fspath(one)) for one in source]
    members = tuple(file for files in found for file in files.members)
    more = f" and {len(members) - 1} more files" if len(members) > 1 else ""
    return Files(f"{members[0]}{more}", members)


def _find(name: str) -> Files:
    from pyarrow.fs import FileType

    filesystem, path = _filesystem(name)
    try:
        (info,) = filesystem.get_file_info([in_bytes(path)])
        if info.type == FileType.Directory:
            found, expected = sorted(_below(filesystem, path)), "files in this folder"
        elif info.type != FileType.NotFound:
            found, expected = [path], "a file"
        elif _PATTERN.search(path):
            found, expected = sorted(_matching(filesystem, path)), "files that this pattern matches"
        else:
            found, expected = [], "a file of interactions"
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: expected files, but they cannot be listed ({brief(error)})") from error
    if not found:
        raise InputError(f"{name}: expected {expected}, and there is none")
    prefix = name.removesuffix(path) if name.endswith(path) else name.partition("://")[0] + "://" * ("://" in name)
    return Files(name, tuple(File(prefix + each, each, filesystem, _keys(each)) for each in found))


def _filesystem(name: str) -> tuple[FileSystem, str]:
    """The file system of a path or an address, and the path there."""
    from pyarrow import fs

    if "://" not in name:
        return fs.LocalFileSystem(), os.path.normpath(name).replace(os.sep, "/")
    try:
        try:
            return fs.FileSystem.from_uri(_quoted(name))
        except ValueError as error:  # no scheme of Arrow's
            unknown = error
        import fsspec  # type: ignore[import-untyped]

        filesystem, path = fsspec.core.url_to_fs(name)
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path
    except ImportError as error:
        raise InputError(f"{name}: expected an address that Arrow or fsspec can open, but {brief(error)}") from error
    except (OSError, ValueError) as error:
        reason = brief(error) if isinstance(error, OSError) else f"{brief(unknown)}; {brief(error)}"
        raise InputError(f"{name}: expected an address that Arrow or fsspec can open, but {reason}") from error


def _quoted(address: str) -> str:
    """An address whose path may have the brackets of a pattern, and blanks, as a URI has it."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{quote(path, safe=_OF_A_URI)}"


def _below(filesystem: FileSystem, folder: str) -> Iterator[str]:
    """The files in a folder and its folders."""
    from pyarrow.fs import FileSelector

    for info in filesystem.get_file_info(FileSelector(folder, recursive=True)):
        own = info.path[len(folder) :].strip("/")
        if info.is_file and not any(part.startswith((".", "_")) for part in own.split("/")):
            yield info.path


def _matching(filesystem: FileSystem, pattern: str) -> Iterator[str]:
    """The files that a pattern matches, and those in the folders that it does."""
    from pyarrow.fs import LocalFileSystem

    parts = pattern.split("/")
    first = next(at for at, part in enumerate(parts) if _PATTERN.search(part))
    here = "." if isinstance(filesystem, LocalFileSystem) else ""
    base = "/".join(parts[:first]) or ("/" if pattern.startswith("/") else here)
    for info in _expanded(filesystem, base, parts[first:]):
        for path in [info.path] if info.is_file else _below(filesystem, info.path):
            yield path.removeprefix("./")


def _expanded(filesystem: FileSystem, folder: str, parts: list[str]) -> Iterator[FileInfo]:
    from pyarrow.fs import FileSelector, FileType

    part, rest = parts[0], parts[1:]
    if part == "**" and rest:
        yield from _expanded(filesystem, folder, rest)
    for info in filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        if info.base_name.startswith((".", "_")) and not part.startswith(info.base_name[0]):
            continue
        if part == "**" and info.type == FileType.Directory:
            yield from _expanded(filesystem, info.path, parts)
        elif fnmatch.fnmatchcase(info.base_name, part) and not rest:
            yield info
        elif fnmatch.fnmatchcase(info.base_name, part) and info.type == FileType.Directory:
            yield from _expanded(filesystem, info.path, rest)


def _keys(path: str) -> dict[str, str | None]:
    """What the folders of a path say."""
    folders: Iterable[tuple[str, str, str]] = (part.partition("=") for part in path.split("/")[:-1])
    return {
        unquote(key): None if value == _NO_VALUE else unquote(value) for key, sign, value in folders if key and sign
    }
