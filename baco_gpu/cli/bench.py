"""baco bench: how fast the solver is on this machine."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.settings_file import write_settings
from baco_gpu.errors import InputError


@expanded
def bench(
    context: typer.Context,
    run: options.Run,
    edges: Annotated[str, typer.Option(help="Edges of the graphs, comma-separated, such as 1e6,1e7.")] = "1e6,1e7",
    solver: Annotated[
        str,
        typer.Option(
            help="What runs, comma-separated: sweeps (five, alone), full (with merging to a quarter of the rows).",
            autocompletion=completion.several_of("baco_gpu.benchmarking.solving:SOLVERS"),
        ),
    ] = "sweeps,full",
    repeats: Annotated[int, typer.Option(help="Timed runs of each, after one to warm up.")] = 3,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write one row a graph and solver here.")] = None,
) -> None:
    """Measure the solver on planted graphs with power-law degrees: seconds by phase, throughput, memory.

    Its sweeps are held against the bandwidth of a copy: each visit to an edge has to read a neighbor's id and label.

    \b
    Examples:
      baco bench --edges 1e6
      baco bench --edges 1e6,1e7,1e8 --backend cuda --solver sweeps --repeats 5 --out bench.csv
    """
    sizes = [_size(word) for word in options.words(edges)]
    options.check_output(out, ".csv")

    from baco_gpu.benchmarking.solving import measure_solver

    with ProgressDisplay(hidden=run.silent) as display:
        rows = measure_solver(
            sizes,
            solvers=options.words(solver),
            backend=run.backend,
            repeats=repeats,
            seed=run.seed,
            progress=display.report,
        )
    if out is not None:
        _write(rows, out)
        write_settings(context, out)
    if run.json:
        print_json({"rows": rows})
        return
    _print(rows)
    if out is not None:
        print_line(f"written: {out}")


def _size(word: str) -> int:
    """A number of edges, as 1000000 or 1e6."""
    try:
        number = float(word)
    except ValueError:
        number = 0.5
    if not number.is_integer():
        raise InputError(f"edges must be whole numbers such as 1e6, comma-separated, got {word!r}")
    return int(number)


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    from baco_gpu.atomic import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            )


def _print(rows: list[dict[str, Any]]) -> None:
    from baco_gpu.benchmarking.solving import PHASES

    columns = ["solver", "edges", "rows", "seconds", "p20 to p80"]
    columns += [*PHASES, "M edges/s", "M visits/s", "share of copy", "peak GiB"]
    table = [
        [
            row["solver"],
            f"{row['edges']:,}",
            f"{row['rows']:,}",
            f"{row['seconds']:.3f}",
            f"{row['seconds_p20']:.3f} to {row['seconds_p80']:.3f}",
            *("" if row[f"seconds_{phase}"] is None else f"{row[f'seconds_{phase}']:.3f}" for phase in PHASES),
            f"{row['edges_a_second'] / 1e6:.2f}",
            f"{row['edge_visits_a_second'] / 1e6:.1f}",
            f"{row['share_of_copy']:.1%}",
            "" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}",
        ]
        for row in rows
    ]
    bandwidth = rows[0]["copy_bytes_a_second"] / 1e9
    title = f"{rows[0]['backend']}: {rows[0]['device']}, copies at {bandwidth:.1f} GB/s"
    print_table(columns, table, title=title)
