"""Training of recommendation models, the same for full tables and codebooks."""

from baco_gpu.models.losses import LOSSES, Objective
from baco_gpu.models.sampling import TripleSampler
from baco_gpu.tables.rowwise import RowwiseRMSprop
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.checkpoint import Checkpoint
from baco_gpu.training.optimizers import Together
from baco_gpu.training.run import TrainingRun
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings
from baco_gpu.training.trainer import DivergenceError, reset_embeddings, train

__all__ = [
    "LOSSES",
    "Callback",
    "Checkpoint",
    "DivergenceError",
    "EpochRecord",
    "Objective",
    "ReportProgress",
    "RowwiseRMSprop",
    "Together",
    "TrainingResult",
    "TrainingRun",
    "TrainingSettings",
    "TripleSampler",
    "reset_embeddings",
    "train",
]
