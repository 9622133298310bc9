"""Co-clustering by all processes of a group, each with a share of the edges."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch.distributed as dist

from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import Backend
from baco_gpu.clustering.backends.distributed import DistributedBackend
from baco_gpu.clustering.backends.share import GraphShare, even_bounds, share_of
from baco_gpu.clustering.result import ResultData
from baco_gpu.clustering.solve.cocluster import Settings, cocluster
from baco_gpu.clustering.solve.weights import integer_edges
from baco_gpu.data.sources.files import is_path
from baco_gpu.distributed.reading import read_share
from baco_gpu.distributed.torch_ranks import TorchRanks
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import as_graph
from baco_gpu.progress import Progress, silent


def share_graph(
    source: Any, process_group: dist.ProcessGroup, *, progress: Progress = silent, **reading: Any
) -> GraphShare:
    """The share that this process has of a graph; all processes of the group make the call, with the same source.

    Users and items are cut where the shares cost about the same. The share keeps nothing of the graph's edges but its
    own. Of files no process reads all, where their format can be divided (`baco_gpu.distributed.reading`); an object
    is on all of them at first, and whoever lets go of it has its memory back.

    Parameters
    ----------
    source : path, or BipartiteGraph, or whatever `baco_gpu.graph.bipartite.as_graph` makes one of
    process_group : torch.distributed.ProcessGroup
    progress : callable
        See `baco_gpu.progress`.
    **reading
        Of files, what `baco_gpu.load_interactions` takes besides.

    Raises
    ------
    InputError
        If the graphs differ, or all processes find the same fault in theirs; for `reading` of what is no file.
    RankError
        If another process has failed.
    """
    ranks = TorchRanks(process_group)
    with ranks.telling():
        return _shared(source, ranks, progress, **reading)


def _shared(source: Any, ranks: TorchRanks, progress: Progress = silent, **reading: Any) -> GraphShare:
    ranks.agree(data=f"files {source!r}" if is_path(source) else type(source).__name__)
    if is_path(source):
        return read_share(ranks, source, progress=progress, **reading)
    if reading:
        raise InputError(f"{', '.join(reading)} applies to files, got a {type(source).__name__}")
    graph = ranks.together(lambda: as_graph(source).to("cpu"))
    ranks.agree(checksum_of_the_graph=graph.checksum())
    bounds = even_bounds(graph, ranks.size)
    return ranks.together(lambda: share_of(graph, integer_edges(graph), ranks.rank, bounds))


def agree_on(parameters: dict[str, Any], ranks: TorchRanks) -> None:
    """Raise InputError on all ranks unless they have the same version of baco_gpu and the same parameters.

    The first that differs is named. The backend, on which labels do not depend, is each rank's own affair.
    """
    said = {name: value for name, value in parameters.items() if name not in ("backend", "process_group")}
    ranks.agree(version_of_baco_gpu=version("baco_gpu"), **{name: repr(value) for name, value in said.items()})


def _on_device_of(ranks: TorchRanks, backend: Backend, asked: str) -> Backend:
    """The backend of a rank: of a group over NCCL, "cuda" is the device by which the group sends (torchrun's
    LOCAL_RANK, where `torch.cuda.set_device` was told so)."""
    if backend.name != "cuda" or ranks.device.type != "cuda":
        return backend
    name = f"cuda:{ranks.device.index}"
    if asked not in ("cuda", name):
        raise InputError(f"backend must be 'cuda' or the device of its process group, {name!r}, got {asked!r}")
    return get_backend(name)


def cocluster_over(
    process_group: dist.ProcessGroup, source: Any, settings: Settings, parameters: dict[str, Any], progress: Progress
) -> ResultData:
    """Co-cluster a graph, or the graph of which `source` is this process's share; the result is on all ranks.

    It is the same, bit for bit, as one process's. See `baco_gpu.clustering.solve.cocluster.cocluster` for the rest.

    Raises
    ------
    InputError
        As there; if graphs, parameters or versions of baco_gpu differ between ranks.
    RankError
        If another process has failed.
    """
    ranks = TorchRanks(process_group)
    agree_on(parameters, ranks)
    own = _on_device_of(ranks, settings.backend, parameters["backend"])
    settings = replace(settings, backend=DistributedBackend(own, ranks))
    with ranks.telling():
        share = source if isinstance(source, GraphShare) else _shared(source, ranks, progress)
        result = cocluster(share, settings, parameters, progress)
        ranks.agree(result=f"{result.labels_sha256} with Q = {result.objective!r} at gamma {result.gamma!r}")
    return result
