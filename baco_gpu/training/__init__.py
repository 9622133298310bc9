"""Training of recommendation models, the same for full tables and codebooks."""

from baco_gpu.models.losses import LOSSES, Objective
from baco_gpu.models.sampling import TripleSampler
from baco_gpu.renaming import renamed_attributes
from baco_gpu.tables.optimizers import CombinedOptimizer
from baco_gpu.tables.rowwise import RowwiseRMSprop
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.checkpoint import Checkpoint
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings
from baco_gpu.training.sharded_checkpoint import ShardedCheckpoint
from baco_gpu.training.trainer import DivergenceError, reset_embeddings, train
from baco_gpu.training.training_run import TrainingRun

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
    "ShardedCheckpoint",
    "TrainingResult",
    "TrainingRun",
    "TrainingSettings",
    "TripleSampler",
    "reset_embeddings",
    "train",
]

__getattr__ = renamed_attributes(__name__, {"Together": "CombinedOptimizer"})
