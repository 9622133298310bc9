"""TorchRec's bag collection over codebooks; `make nightly` installs it for a CPU (docs/torchrec.md)."""

import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baco_gpu import CodebookEmbeddingBag, compress_module
from pages import TEXTS, blocks


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


@pytest.mark.nightly("needs TorchRec and FBGEMM, and starts processes")
@pytest.mark.parametrize("count", [1, 2])
def test_the_page_on_torchrec_runs_in_processes(count: int, tmp_path: Path):
    script = tmp_path / "clicks.py"
    script.write_text("\n".join(block.code for block in blocks(TEXTS["docs/torchrec.md"], "python")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    run = subprocess.run([*launch, script.name], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "clicks.safetensors").is_file()
    assert "compressed" in run.stdout
