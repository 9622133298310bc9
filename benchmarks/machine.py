"""What every row of results says about where it comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import baco_gpu
from baco_gpu import machine


def describe_machine() -> dict[str, str]:
    """Processor, cores, versions, date (UTC) and commit; a commit with uncommitted changes in the package ends in +."""
    return {**machine.describe_machine(), "version": baco_gpu.__version__, "commit": _commit()}


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "../baco_gpu") else "")
