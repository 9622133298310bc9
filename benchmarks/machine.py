"""What every row of results says about where it comes from."""

from __future__ import annotations

import baco_gpu
from baco_gpu import machine


def describe_machine() -> dict[str, str]:
    """Processor, cores, versions, date (UTC) and commit; a commit with uncommitted changes in the package ends in +."""
    return {
        **machine.describe_machine(),
        "version": baco_gpu.__version__,
        "commit": machine.source_commit() or "",
    }
