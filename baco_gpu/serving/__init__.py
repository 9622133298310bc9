"""Lookups where a model serves: one file of tables, read with NumPy and safetensors alone."""

from baco_gpu.serving.table import ServedTable, load_codebook, load_codebooks, save_codebooks

__all__ = ["ServedTable", "load_codebook", "load_codebooks", "save_codebooks"]
