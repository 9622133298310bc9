"""TorchRec's collections, trained and made small without training; `make nightly` installs it (docs/torchrec.md)."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import save_file
from torch import distributed, nn

from baco_gpu import compress_model, load_compressed
from baco_gpu.errors import InputError

pytestmark = pytest.mark.nightly("needs TorchRec and FBGEMM")

SIZES = {"t_user": (700, ["user"]), "t_item": (500, ["item", "history"])}


def collection(kind: str, **options) -> nn.Module:
    import torchrec

    if kind == "bags":
        config, made = torchrec.EmbeddingBagConfig, torchrec.EmbeddingBagCollection
        options.setdefault("pooling", torchrec.PoolingType.SUM)
    else:
        config, made = torchrec.EmbeddingConfig, torchrec.EmbeddingCollection
    return made(
        tables=[
            config(name=name, embedding_dim=16, num_embeddings=count, feature_names=features, **options)
            for name, (count, features) in SIZES.items()
        ]
    )


def features(dtype: torch.dtype = torch.int64):
    import torchrec

    keys = ["user", "item", "history"]
    lengths = torch.arange(30).remainder(4).to(dtype)  # empty ones, too
    values = torch.arange(int(lengths.sum())).mul(37).remainder(500).to(dtype)
    return torchrec.KeyedJaggedTensor(keys, values, lengths=lengths)


def answers(module: nn.Module, given) -> dict[str, torch.Tensor]:
    found = module(given)  # a KeyedTensor of bags, or a JaggedTensor for every feature
    parts = {name: found[name] for name in list(found.keys())}
    return {name: part if isinstance(part, torch.Tensor) else part.values() for name, part in parts.items()}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("kind", ["bags", "mean bags", "rows"])
@pytest.mark.parametrize("lies_in", ["module", "state", "file"])
@pytest.mark.parametrize("method", ["product", "trellis", "quantized"])
def test_small_collections_answer_as_the_trained_ones_do(kind, lies_in, method, dtype, tmp_path):
    import torchrec

    fresh = functools.partial(
        collection, kind.split()[-1], **({"pooling": torchrec.PoolingType.MEAN} if "mean" in kind else {})
    )
    trained, small, plain = fresh(), fresh(), fresh()
    source = trained if lies_in == "module" else trained.state_dict()
    if lies_in == "file":
        save_file(source, tmp_path / "model.safetensors")
        source = tmp_path / "model.safetensors"
    compressed = compress_model(source, 0.08 if method == "trellis" else 0.3, methods=[method])
    compressed.save(tmp_path / "small.safetensors")
    load_compressed(tmp_path / "small.safetensors").rebuild(small)
    plain.load_state_dict(compressed.expanded())
    given = features(dtype)
    full, found, expected = (answers(module, given) for module in (trained, small, plain))
    assert found.keys() == full.keys()
    for name, rows in found.items():
        assert rows.shape == full[name].shape
        torch.testing.assert_close(rows, expected[name])
        assert (rows - full[name]).norm() < 0.7 * full[name].norm()
    sum(rows.square().sum() for rows in found.values()).backward()
    assert any(parameter.grad is not None for parameter in small.parameters())


def test_a_distributed_model_is_refused_until_its_tables_are_whole(tmp_path):
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from torch.distributed import tensor
    from torch.distributed._shard.sharded_tensor import ShardedTensor
    from torchrec.distributed import DistributedModelParallel
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

    fused = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": 0.01}
    model = nn.ModuleDict({"ebc": collection("bags")})
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        sharder = EmbeddingBagCollectionSharder(fused_params=fused)
        spread = DistributedModelParallel(model, device=torch.device("cpu"), sharders=[sharder])
        state = spread.state_dict()
        for source in (spread, state):
            with pytest.raises(
                InputError, match=r"^source: expected dense .* spread over processes: .* method gather$"
            ):
                compress_model(source)
        mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
        whole = tensor.distribute_tensor(torch.ones(900, 8), mesh, [tensor.Shard(0)])
        with pytest.raises(InputError, match=r"got 'emb.weight' spread over processes: .* method full_tensor$"):
            compress_model({"emb.weight": whole})
        for name, table in state.items():
            assert isinstance(table, ShardedTensor)
            state[name] = torch.empty(table.size())
            table.gather(0, state[name])
            assert torch.equal(state[name], table.local_tensor())
    finally:
        distributed.destroy_process_group()
    small = compress_model(state, 0.3)
    assert sorted(small.tables) == ["ebc.embedding_bags.t_item", "ebc.embedding_bags.t_user"]
    assert all(table.row_error < 0.01 for table in small.report.tables)
