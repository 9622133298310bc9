"""A file is never written under a name that says another format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baco_gpu import BalancedCoclustering, CodebookEmbedding, compress_model, export_codebook
from baco_gpu.errors import InputError
from baco_gpu.tables.export import export_onnx
from baco_gpu.training import Checkpoint
from graphs import random_graph

pytestmark = pytest.mark.heavy("compiles and makes modules")


def writers():
    table = CodebookEmbedding(np.arange(8) % 3, 4)
    compressed = compress_model({"user_embedding.weight": torch.randn(40, 8)}, 0.6, methods=["quantized"])
    result = BalancedCoclustering(budget=0.5).fit(random_graph(20, 15, 60, seed=1)).result_
    return {
        "save": (result.save, ".safetensors"),
        "export_codebook": (lambda path: export_codebook(table, path), ".safetensors"),
        "CompressedModel.save": (compressed.save, ".safetensors"),
        "CompressedModel.save_expanded": (compressed.save_expanded, ".safetensors"),
        "Checkpoint": (Checkpoint, ".safetensors"),
        "export_onnx": (lambda path: export_onnx(table, path), ".onnx"),
    }


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".npz", ".CSV", "other"])
def test_names_that_say_another_format_are_refused(suffix, tmp_path):
    for name, (write, own) in writers().items():
        other = {".onnx": ".safetensors", ".safetensors": ".onnx"}[own] if suffix == "other" else suffix
        with pytest.raises(InputError, match=rf"table\{other}: expected a name that ends in \{own}, got '\{other}'"):
            write(tmp_path / f"table{other}")
        assert not list(tmp_path.iterdir()), name


def test_other_names_are_taken(tmp_path):
    for name, (write, own) in writers().items():
        for end in (own, own.upper(), ".v2", ""):
            write(tmp_path / f"{name}{end}")
