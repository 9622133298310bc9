"""The kernel of sampling.cu, run on the CPU, draws what PyTorch's operations draw, bit for bit."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from baco_gpu.cuda.catalogue import source_text
from baco_gpu.models import sampling
from baco_gpu.ops.counters import philox
from cuda_host.host import ON_KERNELS, SANITIZERS, SMALL, HostLauncher, build, build_text, host_launcher, run_sanitized
from cuda_host.sanitized_sampling import sampler_of

pytestmark = ON_KERNELS

WORDS = """
__global__ void words(Word seed, Word stream, Word* out) {
    const Words own = philox(Words{threadIdx.x, 7, (unsigned)stream, NEGATIVES}, seed);
    out[2 * threadIdx.x] = own.low();
    out[2 * threadIdx.x + 1] = own.high();
}
"""


@pytest.mark.parametrize(
    ("num_users", "num_items", "num_pairs"), [(1, 2, 1), (3, 70, 60), (50, 40, 700), (40, 1000, 1025), (5, 2**40, 3)]
)
def test_triples_have_the_bits_of_plain_pytorch(num_users, num_items, num_pairs):
    launch = host_launcher(seed=2, interrupt=3)
    for seed in (0, 2**63 + 12345):
        sampler = sampler_of(num_users, num_items, num_pairs)
        sampler._seed = seed
        for epoch in (0, 1, 2**32 - 1):
            for first, count in ((0, sampler.num_samples), (sampler.num_samples // 2, 1)):
                expected = sampler._triples_by_torch(epoch, first, count)
                assert torch.equal(sampler._triples_by_kernel(launch, epoch, first, count), expected)
    assert launch.launched == {"draw_triples"}


def test_a_sampler_on_a_gpu_launches_the_kernel(monkeypatch):
    launch = host_launcher()
    sampler = sampler_of(30, 50, 200)
    expected = sampler.triples(2, 3, 50)
    sampler.device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(sampling, "launcher_of", lambda device: launch)
    assert torch.equal(sampler.triples(2, 3, 50), expected)
    assert launch.launched == {"draw_triples"}


def test_the_published_words_of_philox(tmp_path):
    """Against PyTorch's, which the known answers hold, for a counter a thread."""
    library = build_text(tmp_path, SMALL, "words.cu", source_text("philox.cuh") + WORDS, ["words"])
    out = np.zeros(2 * SMALL.threads, np.uint64)
    seed, stream = 2**64 - 2**33 + 5, 2**32 - 1
    HostLauncher([library], SMALL).run("words", 1, [np.uint64(seed), np.uint64(stream), out])
    for thread in range(SMALL.threads):
        x, y, z, w = philox((thread, 7, stream, 0), seed)
        assert out[2 * thread : 2 * thread + 2].tolist() == [y << 32 | x, w << 32 | z]


# The one kernel small enough to be built with sanitizers in a minute; the others' turn is the nightly tier.
def test_the_kernel_is_clean_under_sanitizers(tmp_path):
    build(tmp_path, SMALL, ["sampling.cu"], SANITIZERS)
    assert run_sanitized("cuda_host.sanitized_sampling", tmp_path).stdout == "same\n"
