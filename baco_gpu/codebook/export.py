"""Trained modules as files to serve from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.low_precision import LowPrecisionEmbedding
from baco_gpu.codebook.mixed import MixedCodebookEmbedding
from baco_gpu.codebook.product import ProductCodebookEmbedding
from baco_gpu.codebook.quantize import quantized_rows
from baco_gpu.codebook.residual import ResidualCodebookEmbedding
from baco_gpu.codebook.weighted import WeightedCodebookEmbedding
from baco_gpu.errors import InputError
from baco_gpu.precision import pack
from baco_gpu.serving.onnx_graph import save_onnx
from baco_gpu.serving.table import ServedTable, save_codebooks

ONLY_TABLE = "table"


Served = CodebookEmbedding | LowPrecisionEmbedding


def export_codebook(tables: Served | Mapping[str, Served], path: str | os.PathLike[str]) -> Path:
    """Write codebooks, codes and residuals to one safetensors file; returns the path.

    `baco_gpu.serving.load_codebook` reads it with NumPy and safetensors alone, and looks up what the modules do. Of a
    bag the embeddings of its ids are served.

    Parameters
    ----------
    tables : CodebookEmbedding or LowPrecisionEmbedding, or a mapping of names to such modules
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


def export_onnx(module: Served, path: str | os.PathLike[str]) -> Path:
    """Write the lookup of one module as an ONNX model; see `baco_gpu.serving.onnx_graph.save_onnx`."""
    return save_onnx(served_table(module), path)


def served_table(module: Served) -> ServedTable:
    """The plain arrays of a module; InputError for any other module."""
    if isinstance(module, LowPrecisionEmbedding):
        return ServedTable(
            codebook=_array(module.integers),
            scales=_array(module.scales),
            bits=module.bits,
            dim=module.embedding_dim,
            padding_idx=module.padding_idx,
        )
    if not isinstance(module, CodebookEmbedding):
        raise InputError(f"a table must be a CodebookEmbedding or a LowPrecisionEmbedding, got {type(module).__name__}")
    if isinstance(module, WeightedCodebookEmbedding):
        raise InputError("a table must be a mean of rows to be served, got a WeightedCodebookEmbedding")
    residuals: dict[str, Any] = {}
    if isinstance(module, ResidualCodebookEmbedding):
        values = [module.residual.data, module.basis.data]
        if module.bits is not None:  # what packed rows are looked up in
            values = [part.float() for part in values]
        residuals = dict(zip(("residual", "basis"), map(_array, values), strict=True))
        residuals["residual_rows"] = _array(module.residual_rows)
    rows: dict[str, Any] = {"codebook": _array(module.codebook)}
    if module.bits is not None:
        integers, scales = (_array(part) for part in quantized_rows(module.codebook, module.bits))
        packed = pack(integers, module.bits)
        rows = {"codebook": packed, "scales": scales, "bits": module.bits, "dim": module.embedding_dim}
    if isinstance(module, ProductCodebookEmbedding):
        if not module.encoded:
            raise InputError("rows that are product codes must be encoded to be served: call `encode` first")
        numbers = _array(module.numbers).view(module.form.dtype)
        rows = {"codebook": numbers, "centroids": _array(module.centroids), "dim": module.embedding_dim}
        if module.scales is not None:
            rows["scales"] = _array(module.scales)
    return ServedTable(
        **rows,
        codes=None if module.own_rows else _array(module.codes),
        secondary=None if module.secondary is None else _array(module.secondary),
        padding_idx=module.padding_idx,
        own_share=module.own_share if isinstance(module, MixedCodebookEmbedding) else None,
        **residuals,
    )


def _array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    array: np.ndarray = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array
