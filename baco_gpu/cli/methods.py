"""baco methods: what can be compared."""

from __future__ import annotations

from baco_gpu.cli import options
from baco_gpu.cli.console import print_json, print_line, print_table

_WIDTH = 100  # where there is no terminal
_SIZES = {"budget": "", "own": "; it chooses its own size", "full": ""}


def methods(
    json: options.Json = False,
) -> None:
    """List the methods of `train` and `compare`: who shares rows, how rows are stored and trained, when to use which.

    A method marked with :SIDES can have secondary clusters, of users, items, both or none: louvain:users. --json has
    their sources, too.

    \b
    Example:
      baco methods --json
    """
    from baco_gpu.clustering.solve.parameters import SECONDARY
    from baco_gpu.methods.registry import METHODS

    if json:
        facts = [
            {
                "name": method.name,
                "family": method.family,
                "description": method.shared,
                "stored": method.stored,
                "trained": method.trained,
                "when": method.when,
                "source": method.source,
                "size": method.size,
                "secondary": method.secondary,
                "needs": None if method.requires is None else method.requires.distribution,
                "installed": method.installed,
            }
            for method in METHODS
        ]
        print_json({"methods": facts})
        return
    rows = [
        [
            method.name + ("" if method.secondary is None else ":SIDES"),
            method.shared,
            method.stored,
            method.trained,
            method.when
            + _SIZES[method.size]
            + ("" if method.installed or method.requires is None else f"; needs {method.requires.distribution}"),
        ]
        for method in METHODS
    ]
    columns = ["method", "who shares a row", "stored as", "trained as", "when to use it"]
    print_table(columns, rows, title="methods", numbers=False, width=_WIDTH)
    print_line(f"SIDES: {', '.join(SECONDARY)}")
