"""What every row of results says about where it comes from, and the file that rows go into."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import baco_gpu
from baco_gpu import machine


def describe_machine() -> dict[str, str]:
    """Processor, cores, versions, date (UTC) and commit; a commit with uncommitted changes in the package ends in +."""
    return {
        **machine.describe_machine(),
        "version": baco_gpu.__version__,
        "commit": machine.source_commit() or "",
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file of rows, under the names that the last one has; what another lacks is left blank."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[-1]), restval="")
        writer.writeheader()
        writer.writerows(rows)
