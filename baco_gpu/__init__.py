"""Small embedding tables for recommenders, by co-clusters of the interaction graph and by product codes.

Public names are loaded on first use, so that `import baco_gpu` needs neither Numba, torch nor CuPy.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baco_gpu.columns.tables_compression import compress_tables
    from baco_gpu.data.interactions import Interactions, SplitInteractions
    from baco_gpu.data.readers import load_interactions, load_split
    from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
    from baco_gpu.estimator.coclustering_result import CoclusteringResult
    from baco_gpu.experiment.model_file import load_recommender
    from baco_gpu.graph.bipartite import BipartiteGraph
    from baco_gpu.pretrained.compressed_model import load_compressed
    from baco_gpu.pretrained.model_compression import compress_model
    from baco_gpu.serving.answers import Recommender
    from baco_gpu.tables.bag import CodebookEmbeddingBag
    from baco_gpu.tables.codebook import CodebookEmbedding
    from baco_gpu.tables.export import export_codebook
    from baco_gpu.tables.mixed import MixedCodebookEmbedding
    from baco_gpu.tables.module_compression import compress_module
    from baco_gpu.tables.module_growth import resize_module
    from baco_gpu.tables.product import ProductCodebookEmbedding
    from baco_gpu.tables.quantized import QuantizedEmbedding
    from baco_gpu.tables.rebuild import rebuild_module
    from baco_gpu.tables.residual import ResidualCodebookEmbedding
    from baco_gpu.tables.rowwise import RowwiseRMSprop
    from baco_gpu.tables.served import ServedEmbedding
    from baco_gpu.tables.trellis import TrellisEmbedding

__version__ = version("baco_gpu")

_HOMES = {
    "BalancedCoclustering": "baco_gpu.estimator.balanced_coclustering",
    "BipartiteGraph": "baco_gpu.graph.bipartite",
    "CodebookEmbedding": "baco_gpu.tables.codebook",
    "CodebookEmbeddingBag": "baco_gpu.tables.bag",
    "CoclusteringResult": "baco_gpu.estimator.coclustering_result",
    "Interactions": "baco_gpu.data.interactions",
    "QuantizedEmbedding": "baco_gpu.tables.quantized",
    "Recommender": "baco_gpu.serving.answers",
    "MixedCodebookEmbedding": "baco_gpu.tables.mixed",
    "ProductCodebookEmbedding": "baco_gpu.tables.product",
    "ResidualCodebookEmbedding": "baco_gpu.tables.residual",
    "RowwiseRMSprop": "baco_gpu.tables.rowwise",
    "ServedEmbedding": "baco_gpu.tables.served",
    "SplitInteractions": "baco_gpu.data.interactions",
    "TrellisEmbedding": "baco_gpu.tables.trellis",
    "compress_model": "baco_gpu.pretrained.model_compression",
    "compress_module": "baco_gpu.tables.module_compression",
    "compress_tables": "baco_gpu.columns.tables_compression",
    "export_codebook": "baco_gpu.tables.export",
    "load_compressed": "baco_gpu.pretrained.compressed_model",
    "load_recommender": "baco_gpu.experiment.model_file",
    "load_interactions": "baco_gpu.data.readers",
    "load_split": "baco_gpu.data.readers",
    "rebuild_module": "baco_gpu.tables.rebuild",
    "resize_module": "baco_gpu.tables.module_growth",
}

_RENAMED = {"LowPrecisionEmbedding": "QuantizedEmbedding"}  # before: now

__all__ = [
    "BalancedCoclustering",
    "BipartiteGraph",
    "CoclusteringResult",
    "CodebookEmbedding",
    "CodebookEmbeddingBag",
    "Interactions",
    "MixedCodebookEmbedding",
    "ProductCodebookEmbedding",
    "QuantizedEmbedding",
    "Recommender",
    "ResidualCodebookEmbedding",
    "RowwiseRMSprop",
    "ServedEmbedding",
    "SplitInteractions",
    "TrellisEmbedding",
    "__version__",
    "compress_model",
    "compress_module",
    "compress_tables",
    "export_codebook",
    "load_compressed",
    "load_interactions",
    "load_recommender",
    "load_split",
    "rebuild_module",
    "resize_module",
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from baco_gpu.renaming import warn_renamed

        warn_renamed(name, _RENAMED[name])
        return __getattr__(_RENAMED[name])
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'baco_gpu' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
