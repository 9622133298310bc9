"""Embedding tables: full ones, and those whose rows are shared, of few bits or product codes."""

from baco_gpu.ops.lookup import codebook_expand, codebook_lookup
from baco_gpu.renaming import renamed_attributes
from baco_gpu.tables.bag import CodebookEmbeddingBag, TableBag
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.epochs import begin_epoch, finalize
from baco_gpu.tables.export import export_codebook, export_onnx
from baco_gpu.tables.full import FullTable
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.tables.module_compression import CompressionReport, compress_module
from baco_gpu.tables.module_growth import resize_module
from baco_gpu.tables.optimizers import CombinedOptimizer
from baco_gpu.tables.product import ProductCodebookEmbedding
from baco_gpu.tables.quantized import QuantizedEmbedding
from baco_gpu.tables.rebuild import rebuild_module
from baco_gpu.tables.residual import ResidualCodebookEmbedding, ResidualMixedCodebookEmbedding
from baco_gpu.tables.served import ServedEmbedding
from baco_gpu.tables.sharded import ShardedTable
from baco_gpu.tables.trellis import TrellisEmbedding
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

__all__ = [
    "CodebookEmbedding",
    "CodebookEmbeddingBag",
    "CombinedOptimizer",
    "CompressionReport",
    "EmbeddingTable",
    "FullTable",
    "MixedCodebookEmbedding",
    "ProductCodebookEmbedding",
    "QuantizedEmbedding",
    "ResidualCodebookEmbedding",
    "ResidualMixedCodebookEmbedding",
    "ServedEmbedding",
    "ShardedTable",
    "TableBag",
    "TrellisEmbedding",
    "WeightedCodebookEmbedding",
    "begin_epoch",
    "codebook_expand",
    "codebook_lookup",
    "compress_module",
    "export_codebook",
    "export_onnx",
    "finalize",
    "rebuild_module",
    "resize_module",
]

__getattr__ = renamed_attributes(__name__, {"LowPrecisionEmbedding": "QuantizedEmbedding"})
