"""Steps of rows of 8 bits on kernels under sanitizers; takes the folder of the libraries."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch

from baco_gpu import LowPrecisionEmbedding, RowwiseRMSprop
from baco_gpu.training import rowwise
from cuda_host.host import SMALL, HostLauncher


def main() -> None:
    launch = HostLauncher(sorted(Path(sys.argv[1]).glob("*.so")), SMALL, seed=4, interrupt=2)
    rowwise.move_rows = functools.partial(rowwise.move_rows_by_kernel, launch)
    for dim in (1, 33, 64):
        table = LowPrecisionEmbedding(9, dim)
        optimizer = RowwiseRMSprop(table)
        for ids in (torch.tensor([8, 0, 8]), torch.arange(9)):
            table(ids).square().sum().backward()
            optimizer.step()
    assert launch.launched == {"low_precision_step"}


if __name__ == "__main__":
    main()
