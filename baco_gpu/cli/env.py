"""baco env: what a bug report should say about the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from baco_gpu.cli import options
from baco_gpu.cli.console import print_json, print_pairs
from baco_gpu.errors import brief

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
    """Show versions, processors, and what each backend does with a small task.

    With an explicit --backend, fail unless that one can be had.

    \b
    Example:
      baco env --backend cuda
    """
    import numba
    import torch

    from baco_gpu.clustering.backends import get_backend

    chosen = get_backend(backend)
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "numba_threads": numba.get_num_threads(),
        "torch_threads": torch.get_num_threads(),
        "backend": chosen.name,
        **{f"backend_{name}": _tried(_solve, name) for name in ("cpu", *_gpus())},
        "torch_cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "not available",
        **{f"training_{name}": _tried(_train, name) for name in _torch_devices()},
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if json:
        print_json(facts)
        return
    packages = facts.pop("packages")
    print_pairs({**facts, **packages}, title="environment")


def _gpus() -> list[str]:
    """The CUDA backends of this machine by name; "cuda" where none can be had, to be told why."""
    from baco_gpu.graph.arrays import cuda_obstacle

    if cuda_obstacle() is not None:
        return ["cuda"]
    import cupy

    return [f"cuda:{number}" for number in range(cupy.cuda.runtime.getDeviceCount())]


def _torch_devices() -> list[str]:
    """The devices that PyTorch trains on; "cuda" where there is no GPU among them, to be told why."""
    import torch

    return ["cpu", *([f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cuda"])]


def _tried(task: Callable[[str], str], name: str) -> str:
    """What a task did on a device, or the first line of why it could not."""
    try:
        return task(name)
    except Exception as error:  # whatever it is, it is what a bug report should say
        return f"did not run: {brief(error)}"


def _solve(name: str) -> str:
    """Co-cluster a small graph on a backend, and again on the CPU."""
    from baco_gpu import BalancedCoclustering, BipartiteGraph
    from baco_gpu.data.synthetic import planted_coclusters

    interactions, _, _ = planted_coclusters(60, 40, 400, 6, noise=0.1, seed=0)
    graph = BipartiteGraph.from_interactions(interactions)
    found, expected = (BalancedCoclustering(backend=each).fit(graph).result_ for each in (name, "cpu"))
    same = found.labels_sha256 == expected.labels_sha256
    return f"ran: solved a graph of {graph.num_edges} edges" + ("" if same else ", WITH OTHER LABELS THAN THE CPU")


def _train(name: str) -> str:
    """Look rows of a codebook up on a device, forward and backward, and again on the CPU."""
    import torch

    from baco_gpu import CodebookEmbedding
    from baco_gpu.ops.dispatch import kernels_obstacle

    if name == "cuda":
        return "did not run: PyTorch sees no CUDA device"
    obstacle = None if name == "cpu" else kernels_obstacle()
    found = []
    for device in (name, "cpu"):
        table = CodebookEmbedding([0, 1, 2, 0, 1], 8, [2, 0, 1, 1, 2]).to(device)
        with torch.no_grad():
            table.codebook.copy_(torch.arange(24.0).view(3, 8))
        rows = table(torch.tensor([4, 0, 0, 3], device=device))
        (gradient,) = torch.autograd.grad(rows.square().sum(), table.codebook)
        found.append((rows.detach().cpu(), gradient.cpu()))
    by = "" if name == "cpu" else " by CUDA kernels" if obstacle is None else f" by PyTorch's operations ({obstacle})"
    same = all(map(torch.equal, *found))
    return f"ran: a lookup and its gradient{by}" + ("" if same else ", WITH OTHER NUMBERS THAN THE CPU")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
