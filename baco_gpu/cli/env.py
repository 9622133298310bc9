"""baco env: what a bug report should say about the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from baco_gpu.cli import options
from baco_gpu.cli.console import print_json, print_pairs

_PACKAGES = (
    "baco_gpu",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "pandas",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scikit-network",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def env(backend: options.Backend = "auto", json: options.Json = False) -> None:
    """Show versions, processors and whether each backend can run.

    With an explicit --backend, fail unless that one can.

    \b
    Example:
      baco env --backend cuda
    """
    import numba
    import torch

    from baco_gpu.clustering.backends import get_backend
    from baco_gpu.graph.arrays import cuda_obstacle
    from baco_gpu.ops.dispatch import kernels_obstacle

    chosen = get_backend(backend)
    obstacle, without_kernels = cuda_obstacle(), kernels_obstacle()
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "numba_threads": numba.get_num_threads(),
        "torch_threads": torch.get_num_threads(),
        "backend": chosen.name,
        "backend_cuda": obstacle or "available",
        "torch_cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "not available",
        "training_on_gpu": f"PyTorch's operations: {without_kernels}" if without_kernels else "CUDA kernels",
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if json:
        print_json(facts)
        return
    packages = facts.pop("packages")
    print_pairs({**facts, **packages}, title="environment")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
