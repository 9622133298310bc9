"""What the shell offers after TAB, once `baco --install-completion` has run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path
from pkgutil import resolve_name

Completion = Callable[[str], list[str]]


def one_of(choices: str) -> Completion:
    """Complete to one of `choices`, "module:NAME", which is imported only then: it may be slow to."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in resolve_name(choices) if choice.startswith(incomplete)]

    return complete


def several_of(choices: str) -> Completion:
    """As `one_of`, for the last of names separated by commas; those that are there already are not offered again."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            f"{before}{comma}{choice}"
            for choice in resolve_name(choices)
            if choice.startswith(last) and choice not in taken
        ]

    return complete


def data_sets(incomplete: str) -> list[str]:
    """Complete to the names of sets, to files of interactions, and to folders on the way to them."""
    from baco_gpu.data.readers import NAMES
    from baco_gpu.data.sources.kinds import SUFFIXES

    names = [name for name in NAMES if name.startswith(incomplete)]
    return names + _files(incomplete, SUFFIXES)


def files_of(*suffixes: str) -> Completion:
    """Complete to files with one of these suffixes, and to folders on the way to them."""

    def complete(incomplete: str) -> list[str]:
        return _files(incomplete, suffixes)

    return complete


def _files(incomplete: str, suffixes: Iterable[str]) -> list[str]:
    paths = [Path(path) for path in sorted(glob(f"{escape(incomplete)}*"))]
    wanted = tuple(suffixes)
    return [f"{path}/" for path in paths if path.is_dir()] + [
        str(path) for path in paths if path.is_file() and path.suffix.lower() in wanted
    ]
