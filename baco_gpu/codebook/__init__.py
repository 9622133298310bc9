"""Embedding tables whose rows are shared between the members of a cluster."""

from baco_gpu.codebook.bag import CodebookEmbeddingBag
from baco_gpu.codebook.compress import CompressionReport, compress_module
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.export import export_codebook, export_onnx
from baco_gpu.codebook.lookup import codebook_expand, codebook_lookup
from baco_gpu.codebook.low_precision import LowPrecisionEmbedding
from baco_gpu.codebook.mixed import MixedCodebookEmbedding
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.codebook.residual import ResidualCodebookEmbedding, ResidualMixedCodebookEmbedding
from baco_gpu.codebook.served import ServedEmbedding

__all__ = [
    "CodebookEmbedding",
    "CodebookEmbeddingBag",
    "CompressionReport",
    "LowPrecisionEmbedding",
    "MixedCodebookEmbedding",
    "ProductCodebookEmbedding",
    "ResidualCodebookEmbedding",
    "ResidualMixedCodebookEmbedding",
    "ServedEmbedding",
    "codebook_expand",
    "codebook_lookup",
    "compress_module",
    "export_codebook",
    "export_onnx",
]
