"""Compressed models in other people's training jobs: compiled, exported, copied, in half precision, in processes."""

from __future__ import annotations

import copy
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baco_gpu import ResidualCodebookEmbedding, compress_module
from baco_gpu.tables.id_growth import Codes
from tiers import full

pytestmark = pytest.mark.heavy("trains models")

USERS = Codes(np.arange(12) % 5, np.where(np.arange(12) % 2, (np.arange(12) + 1) % 5, -1))
TAGS = np.arange(9) % 4
BATCH = 8


class Job(nn.Module):
    """A user, a bag of tags and an item, of which some have a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.tags = nn.Embedding(12, 6), nn.EmbeddingBag(9, 6, mode="mean", padding_idx=0)
        self.item: nn.Module = nn.Embedding(10, 6)
        self.score = nn.Linear(6, 1)

    def forward(self, users: Tensor, tags: Tensor, items: Tensor) -> Tensor:
        return self.score(self.user(users) * self.item(items) + self.tags(tags)).squeeze(-1)


def compressed_job() -> Job:
    torch.manual_seed(5)
    job = Job().double()
    compress_module(job, {"user": USERS, "tags": TAGS})
    job.item = ResidualCodebookEmbedding.from_pretrained(
        job.item, np.arange(10) % 3, residual_dim=2, residual_ids=[1, 4, 7]
    )
    return job


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(size, shape, generator=generator)
        for size, shape in ((12, (BATCH,)), (9, (BATCH, 3)), (10, (BATCH,)))
    )


def gradients(job: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): parameter.grad for name, parameter in job.named_parameters()}


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler is there")
def test_a_compressed_model_compiles_to_one_graph_and_trains_as_it_did():
    eager = compressed_job()
    compiled_from = copy.deepcopy(eager)
    compiled = torch.compile(
        compiled_from, fullgraph=True, backend=full("inductor", "aot_eager")
    )  # raises at a graph break
    for seed in range(2):
        outputs = [run(*batch(seed)) for run in (eager, compiled)]
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.square().sum().backward()
    assert eager.item.residual.grad.any()
    torch.testing.assert_close(gradients(compiled_from), gradients(eager))


def test_a_compressed_model_is_exported_for_any_batch():
    job = compressed_job()
    size = torch.export.Dim("batch", min=2)
    exported = torch.export.export(job, batch(), dynamic_shapes=({0: size}, {0: size}, {0: size}))
    larger = tuple(torch.cat((part, part[:3])) for part in batch(1))
    torch.testing.assert_close(exported.module()(*larger), job(*larger))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda job: pickle.loads(pickle.dumps(job))], ids=["copy", "pickle"])
def test_copies_and_restored_states_of_a_compressed_model_are_the_same_model(copied):
    job = compressed_job()
    twin, other = copied(job), compressed_job()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(job.state_dict())
    for each in (twin, other):
        assert torch.equal(each(*batch()), job(*batch()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_compressed_model_trains_in_mixed_precision(dtype):
    job = compressed_job().float()
    optimizer, scaler = torch.optim.SGD(job.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    before = copy.deepcopy(job.state_dict())
    with torch.autocast("cpu", dtype):
        scores = job(*batch())
    scaler.scale(scores.float().square().sum()).backward()
    scaler.step(optimizer)
    assert scores.dtype == dtype
    for name, parameter in job.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, before[name]), name


def _train_in_part(rank: int, folder: str, count: int) -> None:
    """One of `count` processes: its part of the batch, the gradients averaged over all of them."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    job = nn.parallel.DistributedDataParallel(compressed_job())
    parts = [part.chunk(count)[rank] for part in batch()]
    job(*parts).square().sum().backward()
    torch.save(gradients(job), f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # threads of gloo now and then abort a process that takes itself down in order


def test_processes_share_the_gradients_of_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(_train_in_part, (str(tmp_path), 2), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = compressed_job()
    (alone(*batch()).square().sum() / 2).backward()
    assert (
        set(first)
        == set(gradients(alone))
        == {
            *("user.codebook", "tags.codebook", "item.codebook", "item.residual", "item.basis"),
            *("score.weight", "score.bias"),
        }
    )
    for name, gradient in gradients(alone).items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], gradient)
        assert gradient.any(), name
