"""Recommendation models over tables of any kind, one a file, each registered under its name.

Every file of this folder is imported here, so that a new model is there as soon as its file is.
"""

import importlib
import pkgutil

from baco_gpu.models.adjacency import BipartiteAdjacency
from baco_gpu.models.lightgcn import LightGCN
from baco_gpu.models.losses import BatchRows, Objective
from baco_gpu.models.matrix_factorization import MatrixFactorization
from baco_gpu.models.recommender import (
    MODELS,
    NoOptions,
    Recommender,
    Sampler,
    Table,
    build_model,
    find_model,
    full_table,
    model_options,
    option,
)
from baco_gpu.models.sampling import TripleSampler

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = [
    "MODELS",
    "BatchRows",
    "BipartiteAdjacency",
    "LightGCN",
    "MatrixFactorization",
    "NoOptions",
    "Objective",
    "Recommender",
    "Sampler",
    "Table",
    "TripleSampler",
    "build_model",
    "find_model",
    "full_table",
    "model_options",
    "option",
]
