"""Lookups and gradients on kernels built with sanitizers: a process of its own, with the sanitizers' library."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from baco_gpu.ops import kernels, reference
from cuda_host.host import SMALL, HostLauncher

if __name__ == "__main__":
    launch = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL, interrupt=5)
    kernels.PIECE = 8
    generator = torch.Generator().manual_seed(0)
    codes, second = torch.randint(40, (2, 97), generator=generator, dtype=torch.int32)
    # Several rows have more terms than a piece.
    indices = torch.cat((torch.arange(97), torch.zeros(50), torch.ones(70))).int()
    wild = torch.tensor([-1, 97, 2**31 - 1, -(2**31)], dtype=torch.int32)
    for dtype in kernels.VALUES:
        for dim in (1, 7, 8, 129):
            codebook = torch.randint(-4, 5, (40, dim), generator=generator).to(dtype)
            grad = torch.randint(-4, 5, (len(indices), dim), generator=generator).to(dtype)
            given = (codes, second, indices, 5)
            assert torch.equal(kernels.lookup(launch, codebook, *given), reference.lookup(codebook, *given))
            assert torch.equal(
                kernels.lookup_gradient(launch, grad, *given, 40), reference.lookup_gradient(grad, *given, 40)
            )
            assert bool(kernels.lookup(launch, codebook, codes, second, wild, 5).isnan().all())
            assert bool(kernels.lookup(launch, codebook, codes + 40, None, indices[1:2], 5).isnan().all())
            kernels.lookup_gradient(launch, grad[:4], codes - 40, second, wild, 5, 40)
            offsets = torch.tensor([0, 3, 3, 100], dtype=torch.int32)
            weights = torch.ones(100).to(dtype)
            columns = torch.arange(100, dtype=torch.int32) % 40
            product = kernels.gathered_sums(launch, codebook, offsets, columns, weights)
            assert torch.equal(product[0], codebook[:3].float().sum(0).to(dtype))
    print("same")
