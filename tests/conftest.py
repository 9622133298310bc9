"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The first example that calls a compiled loop waits for its compilation.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


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
