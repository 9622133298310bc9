"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os

# One thread a process of tests, since as many processes as there are cores share these. Numba may use four, whatever
# the machine has: tests of threads set as many as they are about. Both are read as the libraries load.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "4"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from tiers import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_itemcollected,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

numba.set_num_threads(1)

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
