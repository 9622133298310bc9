"""Names of before, which work for one release: whoever uses one is told, by a FutureWarning, what to write."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def warn_renamed(former: str, current: str, *, stacklevel: int = 2) -> None:
    """Warn whoever stands so many calls above: 1 is the caller."""
    warnings.warn(f"{former} is called {current} now: write that", FutureWarning, stacklevel=stacklevel + 1)


def renamed_attributes(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose public names had other names before: {"Before": "Now"}."""

    def look_up(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(name, renamed[name])
        return getattr(sys.modules[module], renamed[name])

    return look_up


def renamed_arguments(**renamed: str) -> Callable[[Callable[_Given, _Made]], Callable[_Given, _Made]]:
    """Let a function take keywords by what they were called before, too: `before="now"`."""

    def decorated(function: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
        @functools.wraps(function)
        def called(*arguments: _Given.args, **options: _Given.kwargs) -> _Made:
            for former in renamed.keys() & options.keys():
                current = renamed[former]
                if current in options:
                    raise TypeError(
                        f"{function.__qualname__}() got {former!r} beside {current!r}, which is its name now"
                    )
                warn_renamed(f"argument {former!r}", repr(current))
                options[current] = options.pop(former)
            return function(*arguments, **options)

        return called

    return decorated


class RenamedAttributes:
    """A base of `nn.Module`s whose public attributes had other names before: they are read and set by these, too."""

    _renamed: ClassVar[Mapping[str, str]] = {}  # before: now

    def __getattr__(self, name: str) -> Any:
        current = type(self)._renamed.get(name)
        if current is None:
            return super().__getattr__(name)  # type: ignore[misc]  # that of nn.Module
        warn_renamed(f"{type(self).__name__}.{name}", current)
        return getattr(self, current)

    def __setattr__(self, name: str, value: Any) -> None:
        current = type(self)._renamed.get(name)
        if current is not None:
            warn_renamed(f"{type(self).__name__}.{name}", current)
        super().__setattr__(current or name, value)
