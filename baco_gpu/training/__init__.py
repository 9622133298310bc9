"""Training of recommendation models, the same for full tables and codebooks."""

from baco_gpu.tables.rowwise import RowwiseRMSprop
from baco_gpu.training.callbacks import Callback, ReportProgress
from baco_gpu.training.checkpoint import Checkpoint
from baco_gpu.training.losses import LOSSES, bpr_loss, objective, softmax_loss
from baco_gpu.training.optimizers import Together
from baco_gpu.training.run import TrainingRun
from baco_gpu.training.sampling import TripleSampler
from baco_gpu.training.settings import EpochRecord, TrainingResult, TrainingSettings
from baco_gpu.training.trainer import DivergenceError, reset_embeddings, train

__all__ = [
    "LOSSES",
    "Callback",
    "Checkpoint",
    "DivergenceError",
    "EpochRecord",
    "ReportProgress",
    "RowwiseRMSprop",
    "Together",
    "TrainingResult",
    "TrainingRun",
    "TrainingSettings",
    "TripleSampler",
    "bpr_loss",
    "objective",
    "reset_embeddings",
    "softmax_loss",
    "train",
]
