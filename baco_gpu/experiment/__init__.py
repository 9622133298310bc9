"""Experiments: methods side by side, by the same accounting, training and evaluation."""

from baco_gpu.experiment.compression import Compression, compress
from baco_gpu.experiment.run import Outcome, check_names, run, save_model

__all__ = ["Compression", "Outcome", "check_names", "compress", "run", "save_model"]
