"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The first example that calls a compiled loop waits for its compilation.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

# What changes how commands print; the first is set where tests run in several processes, and either in some shells.
for name in ("COLUMNS", "FORCE_COLOR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real interaction sets, which the environment variable BACO_DATA names."""
    folder = os.environ.get("BACO_DATA")
    if not folder:
        pytest.skip("BACO_DATA does not name a folder of interaction sets")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def baco(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process; returns exit code, stdout, stderr."""
    from baco_gpu.cli import main as cli

    def run(*arguments: object, **options: Any) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments], **options)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
