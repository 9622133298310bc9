"""Models that were trained elsewhere: their tables made small from a file, and put back into the model."""

from baco_gpu.pretrained.compressed_model import CompressedModel, load_compressed
from baco_gpu.pretrained.model_compression import compress_model
from baco_gpu.pretrained.table_losses import ModelReport, TableLoss

__all__ = ["CompressedModel", "ModelReport", "TableLoss", "compress_model", "load_compressed"]
