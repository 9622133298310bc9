"""Recommendation models over tables of any kind, one a file, each registered under its name.

Every file of this folder is imported here, so that a new model is there as soon as its file is.
"""

from baco_gpu.discovery import modules_of
from baco_gpu.models.adjacency import BipartiteAdjacency
from baco_gpu.models.lightgcn import LightGCN
from baco_gpu.models.losses import BatchRows, Objective
from baco_gpu.models.matrix_factorization import MatrixFactorization
from baco_gpu.models.model import (
    MODELS,
    Model,
    NoOptions,
    Sampler,
    Table,
    build_model,
    find_model,
    full_table,
    model_options,
    option,
)
from baco_gpu.models.sampling import TripleSampler
from baco_gpu.renaming import renamed_attributes

modules_of(__name__)

__all__ = [
    "MODELS",
    "BatchRows",
    "BipartiteAdjacency",
    "LightGCN",
    "MatrixFactorization",
    "Model",
    "NoOptions",
    "Objective",
    "Sampler",
    "Table",
    "TripleSampler",
    "build_model",
    "find_model",
    "full_table",
    "model_options",
    "option",
]

__getattr__ = renamed_attributes(__name__, {"Recommender": "Model"})
