"""baco methods: what can be compared."""

from __future__ import annotations

from typing import Annotated

import typer

from baco_gpu.cli.console import print_json, print_table

_SIZES = {"budget": "", "own": "its own", "full": "full"}


def methods(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")] = False,
) -> None:
    """List the methods of `train` and `compare`: their families, sources, sizes, and what each needs.

    A method marked with :SIDES can have secondary clusters, as in louvain:users or codebook:none.

    \b
    Example:
      baco methods --json
    """
    from baco_gpu.baselines.registry import METHODS

    if json:
        facts = [
            {
                "name": method.name,
                "family": method.family,
                "description": method.description,
                "source": method.source,
                "size": method.size,
                "secondary": method.secondary if method.coclusters else None,
                "needs": None if method.needs is None else method.needs.distribution,
                "installed": method.installed,
            }
            for method in METHODS.values()
        ]
        print_json({"methods": facts})
        return
    rows = [
        [
            method.name + (":SIDES" if method.coclusters else ""),
            method.family,
            method.description,
            _SIZES[method.size],
            "" if method.installed or method.needs is None else f"{method.needs.distribution} (not installed)",
            method.source,
        ]
        for method in METHODS.values()
    ]
    print_table(["method", "family", "what it does", "size", "needs", "source"], rows, title="methods", numbers=False)
