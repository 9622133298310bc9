"""Packages that only some methods need, and what to install where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from baco_gpu.errors import MissingExtraError
from baco_gpu.graph.cugraph import REMEDIES


def missing(distribution: str, user: str) -> MissingExtraError:
    """The error that says which command helps."""
    command = REMEDIES.get(distribution, "pip install 'baco_gpu[baselines]'")
    return MissingExtraError(f"{user} needs {distribution}: {command}")


@contextmanager
def needing(distribution: str, user: str) -> Iterator[None]:
    """Import an optional package inside the block; MissingExtraError where it is absent."""
    try:
        yield
    except ImportError as error:
        raise missing(distribution, user) from error
