"""Recommendation models over full tables and codebooks alike."""

from baco_gpu.models.adjacency import BipartiteAdjacency
from baco_gpu.models.build import MODELS, build_model, full_table
from baco_gpu.models.lightgcn import LightGCN
from baco_gpu.models.matrix_factorization import MatrixFactorization
from baco_gpu.models.recommender import BatchRows, Recommender, Table

__all__ = [
    "MODELS",
    "BatchRows",
    "BipartiteAdjacency",
    "LightGCN",
    "MatrixFactorization",
    "Recommender",
    "Table",
    "build_model",
    "full_table",
]
