"""What every row of results says about where it comes from."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import baco_gpu


def describe_machine() -> dict[str, str]:
    """Processor, cores, versions, date (UTC) and commit; a commit with uncommitted changes in the package ends in +."""
    return {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "version": baco_gpu.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "../baco_gpu") else "")
