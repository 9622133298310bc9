"""Embedding tables whose rows are shared between the members of a cluster."""

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.lookup import codebook_expand, codebook_lookup
from baco_gpu.codebook.residual import ResidualCodebookEmbedding

__all__ = ["CodebookEmbedding", "ResidualCodebookEmbedding", "codebook_expand", "codebook_lookup"]
