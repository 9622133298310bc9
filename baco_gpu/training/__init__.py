"""Training of recommendation models, the same for full tables and codebooks."""

from typing import Any

from baco_gpu.models.losses import LOSSES, Objective
from baco_gpu.models.sampling import TripleSampler
from baco_gpu.tables.rowwise import RowwiseRMSprop
from baco_gpu.training import optimizers
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.checkpoint import Checkpoint
from baco_gpu.training.optimizers import CombinedOptimizer
from baco_gpu.training.run import TrainingRun
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings
from baco_gpu.training.trainer import DivergenceError, reset_embeddings, train

__all__ = [
    "LOSSES",
    "Callback",
    "Checkpoint",
    "CombinedOptimizer",
    "DivergenceError",
    "EpochRecord",
    "Objective",
    "ReportProgress",
    "RowwiseRMSprop",
    "TrainingResult",
    "TrainingRun",
    "TrainingSettings",
    "TripleSampler",
    "reset_embeddings",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "Together":  # as CombinedOptimizer was called
        return getattr(optimizers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
