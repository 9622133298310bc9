"""Trained modules as files to serve from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from baco_gpu.errors import InputError
from baco_gpu.serving.onnx_graph import save_onnx
from baco_gpu.serving.table import ServedTable, save_codebooks
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.full import as_table

ONLY_TABLE = "table"
LARGEST_ONNX = 2**31 - 2**20  # bytes of a table: a message of protobuf has 2 GiB at most, nodes among them


def export_codebook(tables: EmbeddingTable | Mapping[str, EmbeddingTable], path: str | os.PathLike[str]) -> Path:
    """Write codebooks, codes and residuals to one safetensors file; returns the path.

    `baco_gpu.serving.load_codebook` reads it with NumPy and safetensors alone, and looks up what the modules do. Of a
    bag the embeddings of its ids are served.

    Parameters
    ----------
    tables : CodebookEmbedding or QuantizedEmbedding, or a mapping of names to such modules
        On any device. Values of bfloat16, which NumPy lacks, are written as float32.
    path : path

    Raises
    ------
    InputError
        If something else than such modules is given, or `path` is a folder, or lies in a folder that does not exist.
    OSError
        If the file cannot be written.
    """
    named = tables if isinstance(tables, Mapping) else {ONLY_TABLE: tables}
    return save_codebooks({name: served_table(module) for name, module in named.items()}, path)


def export_onnx(module: EmbeddingTable, path: str | os.PathLike[str]) -> Path:
    """Write the lookup of one module as an ONNX model; see `baco_gpu.serving.onnx_graph.save_onnx`.

    Raises InputError, too, where the table takes more than the 2 GiB that one file of ONNX holds.
    """
    table = served_table(module)
    if table.nbytes > LARGEST_ONNX:
        raise InputError(
            f"a file of ONNX holds {LARGEST_ONNX:,} bytes, and the table has {table.nbytes:,}: use export_codebook"
        )
    return save_onnx(table, path)


def served_table(module: EmbeddingTable) -> ServedTable:
    """The plain arrays of a module; InputError for one that cannot be served, and for any other module."""
    table = as_table(module)
    table.check_export()
    return ServedTable(**table.export_arrays(), encoding=table.encoding)
