"""Lookups and answers where a model serves: one file of tables, read with NumPy and safetensors alone."""

from baco_gpu.serving.answers import Recommender
from baco_gpu.serving.table import ServedTable, load_codebook, load_codebooks, save_codebooks

__all__ = ["Recommender", "ServedTable", "load_codebook", "load_codebooks", "save_codebooks"]
