"""Every method under one name, and the names that some had before.

Each is an object in a file of this folder, and is there as soon as its file is.
"""

from __future__ import annotations

from dataclasses import replace

from baco_gpu.checks import suggestion
from baco_gpu.discovery import modules_of
from baco_gpu.errors import InputError
from baco_gpu.methods.method import Method
from baco_gpu.renaming import warn_renamed


def _found() -> tuple[Method, ...]:
    parts = [part for file in modules_of(__package__) for part in vars(file).values()]
    named = {part.name: part for part in parts if isinstance(part, Method)}
    return tuple(sorted(named.values(), key=lambda method: (method.order, method.family, method.name)))


METHODS = _found()
NAMES = tuple(method.name for method in METHODS)
FORMER = {former: method.name for method in METHODS for former in method.former}


def find_method(name: str) -> Method:
    """The method called `name`, with the setting that a suffix asks for ("louvain:users").

    A name that it had before is heeded, with a FutureWarning.

    Raises
    ------
    InputError
        For an unknown method or setting.
    """
    current = current_name(name)
    if current != name:
        warn_renamed(f"method {name!r}", repr(current))
    known = dict(zip(NAMES, METHODS, strict=True))
    base, _, setting = str(current).partition(":")
    asked = "" if current == name else name
    if current in known:
        return replace(known[current], asked=asked) if asked else known[current]
    if base not in known:
        raise InputError(
            f"method must be one of {', '.join(NAMES)} (baco methods describes them), got {name!r}"
            f"{suggestion(base, NAMES)}"
        )
    if setting == "sharded":
        divided = ", ".join(method.name for method in METHODS if method.sharded)
        raise InputError(f"method must be {divided} for tables that processes share out, got {name!r}, whose are whole")
    return replace(known[base], asked=asked).with_setting(setting)


def current_name(name: str) -> str:
    """What a method is called that had this name before, or has it."""
    base, colon, setting = str(name).partition(":")
    return f"{FORMER.get(base, base)}{colon}{setting}"


def former_names(name: str) -> list[str]:
    """What a method was called that has this name."""
    return [old + name.removeprefix(new) for old, new in FORMER.items() if name == new or name.startswith(f"{new}:")]
