"""Memory and time of making a trained model small from its file, and of writing it back with plain tables.

    python -m benchmarks.pretrained --gigabytes 0.02 2 --out benchmarks/results/pretrained.csv

The file has three tables of normally distributed values: half of its bytes are eight million ids of 32 dimensions where
it has two gigabytes, an eighth has 32 dimensions, too, and three eighths have 128. The commands of the command line run
in processes of their own. The peak is the resident set as the operating system has it (`/usr/bin/time -v` has the
same), with those pages of the file that are mapped at that time; beside it the most that was not mapped from a file,
which is what a machine must have. The small file tells what the libraries take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.machine import describe_machine, write_rows

TABLES = {"user": (1 / 2, 32), "item": (1 / 8, 32), "query": (3 / 8, 128)}  # shares of the bytes, and dimensions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.02, 2.0])
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--budget", type=float, default=0.13)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for gigabytes in arguments.gigabytes:
        with tempfile.TemporaryDirectory() as folder:
            model, small, plain = (str(Path(folder, f"{name}.safetensors")) for name in ("model", "small", "plain"))
            largest = write_model(model, gigabytes, getattr(torch, arguments.dtype))
            for name, command in (
                ("compress-model", [model, "--budget", str(arguments.budget), "--out", small]),
                ("expand-model", [small, plain]),
            ):
                found = measure([name, *command])
                sizes = {"file_mb": megabytes(os.path.getsize(model)), "largest_table_mb": megabytes(largest)}
                sizes["small_mb"] = megabytes(os.path.getsize(small))
                rows.append({"command": name, "dtype": arguments.dtype, **sizes, **found, **describe_machine()})
                print(rows[-1], flush=True)
                if arguments.out:
                    write_rows(arguments.out, rows)


def megabytes(nbytes: float) -> int:
    return round(nbytes / 1e6)


def write_model(path: str, gigabytes: float, dtype: torch.dtype) -> int:
    """Write a safetensors file of that size; returns the bytes of its largest table."""
    state = {}
    for name, (share, dim) in TABLES.items():
        table = torch.empty(round(gigabytes * 1e9 * share / dim / dtype.itemsize), dim, dtype=dtype)
        for part in table.split(1 << 18):
            part.copy_(torch.randn(part.shape) * torch.linspace(0.2, 1, dim))
        state[f"{name}_embedding.weight"] = table
    save_file(state, path)
    return max(table.nbytes for table in state.values())


def measure(command: list[str]) -> dict[str, Any]:
    """Run `baco`; seconds, and the megabytes of its peaks."""
    started, most = time.perf_counter(), {"VmHWM": 0, "RssAnon": 0}  # rusage would count what this process had, too
    process = subprocess.Popen([sys.executable, "-m", "baco_gpu", *command], stdout=subprocess.DEVNULL)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], 1024 * int(value.split()[0]))
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"baco {' '.join(command)} failed")
    return {
        "peak_mb": megabytes(most["VmHWM"]),
        "not_of_files_mb": megabytes(most["RssAnon"]),
        "seconds": f"{time.perf_counter() - started:.0f}",
        "cpu_seconds": f"{usage.ru_utime + usage.ru_stime:.0f}",
    }


if __name__ == "__main__":
    main()
