"""Served tables as PyTorch modules give what the trained modules give, in the bytes that were exported."""

from __future__ import annotations

import copy

import pytest
import torch
from test_serving import EXACT, modules

from baco_gpu import CodebookEmbedding, ServedEmbedding, export_codebook
from baco_gpu.errors import InputError
from baco_gpu.serving import load_codebook
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

pytestmark = pytest.mark.heavy("compiles and exports modules")

IDS = torch.tensor([[0, 1, 2], [7, 2, 5]])


@pytest.mark.parametrize("name", modules())
def test_a_served_module_gives_what_the_trained_one_gives(name, tmp_path):
    trained = modules()[name]
    wanted = trained.weight.detach()
    served = ServedEmbedding(load_codebook(export_codebook(trained, tmp_path / "table.safetensors")))
    assert not list(served.parameters())
    assert served.nbytes == load_codebook(tmp_path / "table.safetensors").nbytes
    for module in (served, ServedEmbedding.of(trained)):
        for ids in (IDS, IDS.int(), torch.tensor(3), torch.empty((0, 2), dtype=torch.int64)):
            out = module(ids)
            assert (out.shape, out.dtype) == ((*ids.shape, wanted.shape[-1]), wanted.dtype)
            if name in EXACT:
                assert torch.equal(out, wanted[ids])
            else:
                torch.testing.assert_close(out, wanted[ids], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "rows", "stored"),
    [
        ("plain", 4, "float32"),
        ("quantized", 4, "8 bits"),
        ("packed", 4, "4 bits"),
        ("product", 8, "3 codes of 3 centroids"),
    ],
)
def test_it_says_how_rows_are_stored(name, rows, stored):
    assert repr(ServedEmbedding.of(modules()[name])) == f"ServedEmbedding(8, 5, num_rows={rows}, stored in {stored})"


def test_its_state_is_what_is_stored():
    served = ServedEmbedding.of(modules()["packed"])
    other = ServedEmbedding.of(modules()["packed"])
    other.codebook.zero_()
    other.load_state_dict(served.state_dict())
    for twin in (other, copy.deepcopy(served), served.to("cpu")):
        assert torch.equal(twin(IDS), served(IDS))
    assert served.state_dict()["codebook"].dtype == torch.uint8


@pytest.mark.parametrize(
    "name", ["packed", "packed mixed", "product", "residual", "mixed", "low precision", "sixteen bits"]
)
def test_it_is_exported_for_any_batch(name):
    served = ServedEmbedding.of(modules()[name])
    exported = torch.export.export(served, (IDS[0],), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    torch.testing.assert_close(exported.module()(IDS.flatten()), served(IDS.flatten()))


def test_bad_indices_and_tables_are_refused():
    served = ServedEmbedding.of(CodebookEmbedding([0, 1, 1], 4, bits=2))
    for ids, message in (
        (torch.tensor([3]), "indices must be from 0 to 2, got 3"),
        (torch.tensor([-1]), "got -1"),
        (torch.tensor([0.5]), "int32 or int64 tensor, got torch.float32"),
        ([0], "int32 or int64 tensor, got list"),
    ):
        with pytest.raises(InputError, match=message):
            served(ids)
    with pytest.raises(InputError, match="got a WeightedCodebookEmbedding"):
        ServedEmbedding.of(WeightedCodebookEmbedding([0, 1], 4, [1, 0]))
