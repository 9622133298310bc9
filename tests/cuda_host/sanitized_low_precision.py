"""Steps of rows of 8 and 16 bits on kernels under sanitizers; takes the folder of the libraries."""

from __future__ import annotations

import functools
import itertools
import sys
from pathlib import Path

import torch

from baco_gpu import QuantizedEmbedding, RowwiseRMSprop
from baco_gpu.cuda.catalogue import instances
from baco_gpu.tables import rowwise
from cuda_host.host import SMALL, HostLauncher


def main() -> None:
    launch = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL, seed=4, interrupt=2)
    rowwise.move_rows_in_loop = functools.partial(rowwise.move_rows_by_kernel, launch)
    for dim, bits in itertools.product((1, 33, 64), rowwise.KERNEL_LEVELS):
        table = QuantizedEmbedding(9, dim, bits=bits)
        optimizer = RowwiseRMSprop(table)
        for ids in (torch.tensor([8, 0, 8]), torch.arange(9)):
            table(ids).square().sum().backward()
            optimizer.step()
    assert launch.launched == set(instances("low_precision.cu"))


if __name__ == "__main__":
    main()
