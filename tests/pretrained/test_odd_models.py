"""Models whose files and tensors are unusual: which are made small all the same, and which are refused in a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from baco_gpu import QuantizedEmbedding, compress_model, load_compressed
from baco_gpu.errors import InputError
from baco_gpu.serving import load_codebooks


def rows(count: int, dim: int = 8) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("module", ["ebc.embedding_bags", "embeddings"])
def test_a_file_of_torchrecs_collections_is_known_by_its_keys(module, tmp_path):
    state = {f"{module}.t_user.weight": rows(700), f"{module}.t_item.weight": rows(500), "top.bias": rows(1)[0]}
    save_file(state, tmp_path / "model.safetensors")
    small = compress_model(tmp_path / "model.safetensors", 0.3)
    assert list(small.tables) == [f"{module}.t_item", f"{module}.t_user"]
    assert repr(small.report) == f"ModelReport(2 tables: {small.report.verdict})"
    assert small.report.scores_of == (f"{module}.t_user", f"{module}.t_item")
    small.save(tmp_path / "small.safetensors")
    found = load_codebooks(tmp_path / "small.safetensors")[f"{module}.t_user"].lookup([5, 7])
    np.testing.assert_array_equal(found, small.table(f"{module}.t_user")(torch.tensor([5, 7])).detach())


def test_whatever_lies_beside_tables_is_there_again_bit_by_bit(tmp_path):
    others = {
        "row": rows(3),
        "number": torch.tensor(3.5, dtype=torch.float64),
        "none_emb": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
        "emb.of.integers": torch.arange(4000).view(1000, 4),
        "emb8": rows(900).to(torch.float8_e4m3fn),
        "emb3": rows(900).view(90, 10, 8),
        "lost": torch.full((3,), torch.nan, dtype=torch.bfloat16),
        "complex": torch.complex(rows(3), rows(4)[:3]),
    }
    save_file({"a_emb.weight": rows(800), **others}, tmp_path / "model.safetensors")
    small = compress_model(tmp_path / "model.safetensors", 0.3)
    assert list(small.tables) == ["a_emb"]
    small.save(tmp_path / "small.safetensors")
    load_compressed(tmp_path / "small.safetensors").save_expanded(tmp_path / "plain.safetensors")
    plain = load_file(tmp_path / "plain.safetensors")
    assert plain.keys() == {"a_emb.weight", *others}
    for name, tensor in others.items():
        assert (plain[name].dtype, plain[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(plain[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_a_model_stays_what_it_was_when_another_takes_the_name_of_its_file(tmp_path):
    path, first = tmp_path / "model.safetensors", {"emb.weight": rows(900), "top.weight": rows(4)}
    save_file(first, path)
    small = compress_model(path, 0.3)
    save_file({"emb.weight": rows(901), "top.weight": rows(5)}, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").replace(path)
    assert torch.equal(small.state_dict()["top.weight"], first["top.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_table_of_zeros_is_made_small(dtype, tmp_path):
    state = {"a_emb.weight": torch.zeros(900, 8, dtype=dtype), "b_emb.weight": rows(900).to(dtype)}
    compress_model(state, 0.4).save(tmp_path / "small.safetensors")
    small = load_compressed(tmp_path / "small.safetensors")
    assert "a_emb" in small.tables
    assert not small.expanded()["a_emb.weight"].any()
    assert not load_codebooks(tmp_path / "small.safetensors")["a_emb"].lookup([3, 4]).any()


@pytest.mark.parametrize("bits", [16, *range(8, 1, -1)])
def test_rows_are_rounded_alike_however_they_lie_in_memory(bits):
    there, turned = rows(300), rows(300).T.contiguous().T
    assert not turned.is_contiguous()
    one, other = (QuantizedEmbedding.from_pretrained(table, bits=bits) for table in (there, turned))
    assert torch.equal(one.integers, other.integers)
    made = [compress_model({"emb": table}, 0.3).expanded()["emb"] for table in (there, turned)]
    assert torch.equal(*made)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.empty(900, 8, device="meta"), "without values: load the model first"),
        (nn.UninitializedParameter(), "without values: load the model first"),
        (torch.eye(900).to_sparse(), "of layout torch.sparse_coo: make it dense first"),
        (torch.ones(900, 8, dtype=torch.complex128), "of dtype torch.complex128, which safetensors files do not have"),
    ],
)
def test_tensors_that_have_no_values_to_read_are_refused(tensor, reason):
    with pytest.raises(InputError, match=f"^source: expected dense tensors with values, got 'emb.weight' {reason}$"):
        compress_model({"other.weight": rows(900), "emb.weight": tensor})


def test_tables_that_are_small_already_are_left_alone(tmp_path):
    model = nn.ModuleDict({"a_emb": nn.Embedding(900, 8), "b_emb": nn.EmbeddingBag(800, 8)})
    small = compress_model(model, 0.4, tables=["a_emb"])
    small.rebuild(model)
    assert list(compress_model(model.state_dict(), 0.4).tables) == ["b_emb"]
    compress_model(model, 0.4).rebuild(model)
    with pytest.raises(InputError, match="got those that are small already: 'a_emb', 'b_emb"):
        compress_model(model.state_dict(), 0.4)
    small.save(tmp_path / "small.safetensors")
    with pytest.raises(InputError, match=r"expected a trained model, got tables to serve .* `baco compress-model`"):
        compress_model(tmp_path / "small.safetensors")


def test_tables_are_put_into_a_model_that_has_memory():
    small, place = compress_model(nn.ModuleDict({"emb": nn.Embedding(900, 8)}), 0.4), torch.device("meta")
    fresh = nn.ModuleDict({"emb": nn.Embedding(900, 8, device=place)})
    with pytest.raises(
        InputError, match=r"model must be on a device with memory, got 'emb' on meta: call model\.to_em"
    ):
        small.rebuild(fresh)
    small.rebuild(fresh.to_empty(device="cpu"))
    assert torch.equal(fresh["emb"](torch.arange(900)), small.table("emb")(torch.arange(900)))
