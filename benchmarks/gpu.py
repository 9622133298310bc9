"""All that is measured on a GPU, unattended, within minutes: one JSON, one CSV and one picture.

    python -m benchmarks.gpu --out benchmarks/results/gpu
    python -m benchmarks.gpu --parts solve-1e8 lookups --out some

Parts run one after another, each in a process of its own and within a time of its own (`benchmarks/gpu_parts.py`). One
that fails, hangs, crashes or lacks a package is recorded by its name, with the cause and with the rows it had by then,
and the rest goes on: a GPU that a part has left in an error is fresh in the next one. Files are written anew after
every part.

For goals and for comparisons: nu-LPA reports 3.0e9 edges a second on an A100, loading not counted (arXiv 2411.11468).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco_gpu.atomic import replacing
from baco_gpu.errors import BackendUnavailableError, MissingExtraError, brief
from benchmarks.gpu_parts import Options, Part, Row, parts_of
from benchmarks.gpu_picture import picture
from benchmarks.machine import describe_machine

_LEFT_OUT = 3  # the exit code of a part that lacks a package or a device
_LEAST_SECONDS = 10.0  # for which no part begins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="of PyTorch: cuda, cuda:1, cpu")
    parser.add_argument("--backend", help="of the solver; that of the device by default")
    parser.add_argument("--edges", default="1e6,1e7,1e8,1e9", help="of the graphs, comma-separated")
    parser.add_argument("--scale", type=float, default=1.0, help="of all other sizes; below 1 nothing is repeated")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--patience", type=float, default=1.0, help="times what each part may take")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="files to write, but for their suffix")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what a process of one part is told
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = Options(
        backend=arguments.backend or (arguments.device if arguments.device.startswith("cuda") else "cpu"),
        device=arguments.device,
        edges=tuple(int(float(word)) for word in arguments.edges.split(",")),
        scale=arguments.scale,
        seed=arguments.seed,
    )
    parts = {part.name: part for part in parts_of(options)}
    if arguments.part:
        sys.exit(run_here(parts[arguments.part], options, arguments.rows))
    unknown = set(arguments.parts or ()) - parts.keys()
    if unknown:
        parser.error(f"parts must be among {', '.join(parts)}, got {', '.join(sorted(unknown))}")
    chosen = [part for name, part in parts.items() if arguments.parts is None or name in arguments.parts]
    chosen = [part._replace(seconds=arguments.patience * part.seconds) for part in chosen]
    records = run_all(chosen, arguments.minutes, arguments.out)
    sys.exit(any(record["status"] not in ("ran", "left out") for record in records))


def run_here(part: Part, options: Options, path: Path) -> int:
    """Run a part in this process, each of its rows a line of JSON as soon as it is there; the exit code."""
    try:
        with path.open("a", encoding="utf-8") as file:
            for row in part.run(options):
                file.write(json.dumps(row) + "\n")
                file.flush()
    except (MissingExtraError, BackendUnavailableError) as error:
        print(brief(error), file=sys.stderr)
        return _LEFT_OUT
    return 0


def run_all(parts: Sequence[Part], minutes: float, out: Path) -> list[dict[str, Any]]:
    """Run parts in processes of their own, and write what they have found."""
    began, records = time.monotonic(), list[dict[str, Any]]()
    about = {**describe_machine(), "command": sys.orig_argv[1:], "minutes": minutes}
    for part in parts:
        left = 60 * minutes - (time.monotonic() - began)
        record = run_apart(part, min(part.seconds, left)) if left >= _LEAST_SECONDS else _record(part, "no time left")
        records.append(record)
        print(f"{part.name:14} {record['status']:10} {record['seconds']:6.1f} s  {record['cause'] or ''}", flush=True)
        write(out, {"about": about, "seconds": time.monotonic() - began, "parts": records})
    return records


def run_apart(part: Part, seconds: float) -> dict[str, Any]:
    """The record of a part that runs in a process like this one, for so many seconds at most."""
    with tempfile.TemporaryDirectory() as folder:
        rows, said = Path(folder, "rows"), Path(folder, "said")
        rows.touch()
        command = [*sys.orig_argv, "--part", part.name, "--rows", str(rows)]
        began = time.monotonic()
        with said.open("w") as output:
            try:
                done = subprocess.run(command, stdout=output, stderr=output, timeout=seconds, check=False)
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = None
        took = time.monotonic() - began
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
        found = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    status = {0: "ran", None: "cut off", _LEFT_OUT: "left out"}.get(code, "failed")
    cause = None
    if code is None:
        cause = f"not done within {seconds:.0f} s"
    elif code:
        cause = f"{lines[-1] if lines else 'said nothing'}" + (f" (signal {-code})" if code < 0 else "")
    return _record(part, status, took, cause, found)


def _record(
    part: Part, status: str, seconds: float = 0.0, cause: str | None = None, rows: Sequence[Row] = ()
) -> dict[str, Any]:
    return {"part": part.name, "status": status, "seconds": seconds, "cause": cause, "rows": list(rows)}


def write(out: Path, found: dict[str, Any]) -> None:
    """`out`.json as it is; `out`.csv, a line for each number of each row; `out`.png."""
    for suffix in (".json", ".csv", ".png"):
        path = Path(f"{out}{suffix}")
        with replacing(path) as temporary:
            if suffix == ".json":
                temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            elif suffix == ".csv":
                write_numbers(temporary, found["parts"])
            else:
                picture(found, temporary)


def write_numbers(path: Path, parts: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("part", "status", "case", "quantity", "value"))
        for part in parts:
            head = part["part"], part["status"]
            if not part["rows"]:
                writer.writerow((*head, "", "cause", part["cause"] or ""))
            for row in part["rows"]:
                writer.writerows((*head, row["case"], *pair) for pair in row.items() if pair[0] != "case")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
