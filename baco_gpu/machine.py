"""Where figures were made: what every record and every row of a benchmark says of its machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

# What figures depend on: the same release gives the same numbers, another one may not.
_PACKAGES = ("baco_gpu", "numpy", "scipy", "torch", "scikit-learn", "scikit-network", "infomap")


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


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
