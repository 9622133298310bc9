"""Triples drawn by the kernel under sanitizers; takes the folder of the library, and prints "same"."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from baco_gpu.data.interactions import Interactions
from baco_gpu.training import TripleSampler
from cuda_host.host import SMALL, HostLauncher


def sampler_of(num_users, num_items, num_pairs, seed=0):
    rng = np.random.default_rng(seed)
    users = (num_users * rng.random(num_pairs) ** 3).astype(np.int64)
    return TripleSampler(
        Interactions(users, rng.integers(0, num_items, num_pairs), num_users, num_items), 16, seed=seed
    )


def main() -> None:
    sampler = sampler_of(30, 50, 400)
    launch = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL, interrupt=5)
    for place in (0, 17):
        count = sampler.num_samples - place
        by_kernel, by_torch = (
            sampler._triples_by_kernel(launch, 3, place, count),
            sampler._triples_by_torch(3, place, count),
        )
        assert torch.equal(by_kernel, by_torch)
    print("same")


if __name__ == "__main__":
    main()
