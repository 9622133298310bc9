"""Where figures were made: what every record and every row of a benchmark says of its machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

# What figures depend on: the same release gives the same numbers, another one may not.
_PACKAGES = ("baco_gpu", "numpy", "scipy", "torch", "scikit-learn", "scikit-network", "infomap", "pymetis")


def describe_machine() -> dict[str, str]:
    """Processor, cores, Python and the day (UTC)."""
    return {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def describe_versions() -> dict[str, str]:
    """The versions of the packages that figures depend on; those that are not installed are left out."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def source_commit() -> str | None:
    """The commit of the sources that run, with a + where the package has changed since; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", *arguments]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError:  # no git
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may well lie inside somebody else's checkout.
    if not git("ls-files", "--", Path(__file__).name):
        return None
    commit = git("rev-parse", "--short", "HEAD")
    return None if commit is None else commit + ("+" if git("status", "--porcelain", "--", ".") else "")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
