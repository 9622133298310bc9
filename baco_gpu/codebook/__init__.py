"""Embedding tables whose rows are shared between the members of a cluster."""

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.lookup import codebook_expand, codebook_lookup

__all__ = ["CodebookEmbedding", "codebook_expand", "codebook_lookup"]
