"""What trains a model: an optimizer of PyTorch, or several as one."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from baco_gpu.tables.optimizers import CombinedOptimizer

Optimizer = torch.optim.Optimizer

__all__ = ["CombinedOptimizer", "Optimizer"]


def __getattr__(name: str) -> Any:
    if name == "Together":
        warnings.warn("Together is called CombinedOptimizer now", FutureWarning, stacklevel=2)
        return CombinedOptimizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
