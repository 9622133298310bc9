"""Experiments: methods side by side, by the same accounting, training and evaluation."""

from baco_gpu.experiment.compression import Compression, check_budget, compress
from baco_gpu.experiment.model_answers import recommender_of
from baco_gpu.experiment.model_file import load_recommender, save_model
from baco_gpu.experiment.run import Outcome, check_names, export_tables, run
from baco_gpu.methods.product_plan import encode_pretrained

__all__ = [
    "Compression",
    "Outcome",
    "check_budget",
    "check_names",
    "compress",
    "encode_pretrained",
    "export_tables",
    "load_recommender",
    "recommender_of",
    "run",
    "save_model",
]
