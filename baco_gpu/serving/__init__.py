"""Lookups and answers where a model serves: one file of tables, read with NumPy and safetensors alone.

Every file of this folder is imported here, so that a new decoder is there as soon as its file is.
"""

from baco_gpu.discovery import modules_of
from baco_gpu.serving.answers import Recommender
from baco_gpu.serving.table import ServedTable, load_codebook, load_codebooks, save_codebooks

modules_of(__name__)

__all__ = ["Recommender", "ServedTable", "load_codebook", "load_codebooks", "save_codebooks"]
