"""TorchRec's bag collection over codebooks; `make nightly` installs it for a CPU (docs/training-job.md)."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baco_gpu import CodebookEmbeddingBag, compress_module


@pytest.mark.nightly("needs TorchRec and FBGEMM")
def test_torchrecs_bag_collection_looks_up_in_codebooks():
    import torchrec

    collection = torchrec.EmbeddingBagCollection(
        tables=[
            torchrec.EmbeddingBagConfig(name=name, embedding_dim=4, num_embeddings=count, feature_names=[feature])
            for name, count, feature in (("t_user", 6, "user"), ("t_item", 5, "item"))
        ]
    )
    features = torchrec.KeyedJaggedTensor.from_lengths_sync(
        keys=["user", "item"], values=torch.tensor([0, 5, 2, 4, 4, 1]), lengths=torch.tensor([1, 2, 0, 3])
    )
    plain = copy.deepcopy(collection)
    side = SimpleNamespace(labels=np.array([0, 1, 2, 0, 1, 1]), secondary=np.array([1, -1, 0, -1, -1, -1]))
    compress_module(collection, {"embedding_bags.t_user": side, "embedding_bags.t_item": [0, 0, 1, 2, 2]})
    for name in ("t_user", "t_item"):
        bag = collection.embedding_bags[name]
        assert type(bag) is CodebookEmbeddingBag
        with torch.no_grad():
            plain.embedding_bags[name].weight.copy_(bag.weight)
    torch.testing.assert_close(collection(features).values(), plain(features).values())
    collection(features).values().square().sum().backward()
    assert collection.embedding_bags["t_user"].codebook.grad.abs().sum() > 0
