"""Checks of options that no single option can make: what would change nothing, and what is called otherwise now.

Options that were given on the command line and would change nothing are refused. A file of settings may have what it
likes: it holds every option.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import typer

OF_CLUSTERS = ("gamma", "weights", "solver", "secondary", "codebooks")


def current_names(methods: Sequence[str]) -> list[str]:
    """The methods by the names that they have now; a line on stderr says which was called otherwise."""
    from baco_gpu.methods.registry import current_name

    names = [current_name(method) for method in methods]
    for method, name in zip(methods, names, strict=True):
        if name != method:
            print(f"method {method!r} is called {name!r} now: write that", file=sys.stderr)
    return names


def check_heeded(context: typer.Context, methods: Sequence[str], loss: str, *, clustered: bool = False) -> None:
    """Raise InputError for an option of clusters that none of these methods heeds, or one that the loss does not.

    With `clustered`, clusters are there already, and no method makes any.
    """
    from baco_gpu.methods.registry import find_method

    for name in filter(lambda name: is_given(context, name), OF_CLUSTERS):
        if clustered:
            raise InputError(f"--{name} must not be given with --codes, whose clusters are made")
        if not any(find_method(method).heeds(name) for method in methods):
            raise InputError(
                f"--{name} has no effect on method {', '.join(map(repr, methods))}: leave it out, or name a method "
                "that it has one on, such as --method baco-multilevel"
            )
    if loss != "softmax" and is_given(context, "negatives"):
        raise InputError(f"--negatives has no effect on loss {loss!r}, which has one: leave it out, or --loss softmax")


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the command line has the option, and no file of settings or default."""
    origin = context.get_parameter_source(name)
    return origin is not None and origin.name == "COMMANDLINE"  # its class is Typer's own or Click's, as versions go
