"""Lookups: a codebook against `nn.Embedding` of the full table and `nn.EmbeddingBag(mode="mean")` over the codebook.

    python -m benchmarks.codebook
    python -m benchmarks.codebook --device cuda --ids 1e6 1e7 1e8 --batch 8192 65536 1e6 --out codebook.csv

Three phases each: forward; forward and backward; a training step, which adds fused Adam over the whole table or
codebook. All candidates look up the same random ids, in turns, after two rounds that warm up. Beside the time stands
the least that must be moved: ids, codes, rows read and written, the dense gradient, and Adam's seven passes. The
codebook has a quarter of the rows, with codes drawn at random, which costs what others cost. With `--cuda-graph` a
phase is one replay of a CUDA graph, which leaves the launches of small batches out.

What does not fit the memory (a table, its gradient and Adam's two tables) is left out, with a row that says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu import CodebookEmbedding
from baco_gpu.ops.dispatch import kernels_obstacle
from benchmarks.machine import describe_machine, device_name, write_rows

PHASES = ("forward", "forward and backward", "step")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_WARM_UP = 2
_ADAM_PASSES = 7  # reads of weight, gradient and two moments; writes of weight and moments


class Bag(nn.Module):
    """The mean of two codebook rows by `nn.EmbeddingBag`: what stands for a lookup without this package."""

    def __init__(self, codebook: CodebookEmbedding) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(1, 1, mode="mean")
        self.bag.weight = codebook.codebook
        self.register_buffer("codes", torch.stack((codebook.assignments, codebook.secondary), dim=1).long())

    def forward(self, indices: Tensor) -> Tensor:
        return self.bag(self.codes[indices])


class Candidate(NamedTuple):
    name: str
    module: nn.Module
    codes: int  # rows that an id reads

    @property
    def table(self) -> Tensor:
        return next(self.module.parameters())


def candidates(ids: int, dim: int, share: float, dtype: torch.dtype, device: torch.device) -> Iterator[Candidate | str]:
    """The candidates that fit, and the names of those that do not."""
    rows = max(int(ids * share), 1)
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(rows), rng.integers(0, rows, ids - rows)])
    rng.shuffle(codes)
    codebook = CodebookEmbedding(codes, dim, dtype=dtype, device=device)
    two = CodebookEmbedding(codes, dim, rng.integers(0, rows, ids), dtype=dtype, device=device)
    two.codebook = codebook.codebook  # one for all three: each keeps Adam's moments of its own, and that is enough
    yield Candidate("codebook", codebook, 1)
    yield Candidate("codebook and secondary", two, 2)
    yield Candidate("nn.EmbeddingBag", Bag(two), 2)
    needed = 4 * ids * dim * torch.finfo(dtype).bits // 8
    if needed < free_bytes(device):
        yield Candidate("nn.Embedding", nn.Embedding(ids, dim, dtype=dtype, device=device), 1)
    else:
        yield "nn.Embedding"


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def least_bytes(candidate: Candidate, phase: str, batch: int) -> int:
    """What a phase cannot do without reading and writing."""
    table = candidate.table
    row = table.shape[1] * table.element_size()
    ids = batch * (8 + 4 * candidate.codes * (candidate.name != "nn.Embedding"))
    total = ids + row * (batch + min(batch * candidate.codes, len(table)))
    if phase != "forward":
        total += ids + row * batch + table.nbytes
    if phase == "step":
        total += _ADAM_PASSES * table.nbytes
    return total


def work_of(candidate: Candidate, phase: str, indices: Tensor, cuda_graph: bool) -> Callable[[], object]:
    """The phase as a function without arguments; `indices` may be written to between its calls."""
    capturable = indices.is_cuda and cuda_graph
    optimizer = torch.optim.Adam(candidate.module.parameters(), lr=1e-3, fused=True, capturable=capturable)
    upstream = torch.ones((len(indices), candidate.table.shape[1]), dtype=candidate.table.dtype, device=indices.device)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        out = candidate.module(indices)
        if phase != "forward":
            out.backward(upstream)
        if phase == "step":
            optimizer.step()

    return recorded(run, indices.device) if cuda_graph else run


def recorded(work: Callable[[], None], device: torch.device) -> Callable[[], object]:
    from baco_gpu.training.steps import GraphRecorder

    recorder = GraphRecorder(device)
    for _ in range(_WARM_UP + 1):
        recorder.aside(work)
    return recorder.record(work)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream(device)
    begin.record(stream)
    work()
    end.record(stream)
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def check_agreement(found: list[Candidate], indices: Tensor) -> None:
    """A lookup with two codes is the mean that the bag takes; a time counts only for the right rows."""
    by_name = {candidate.name: candidate.module for candidate in found}
    two, bag = by_name["codebook and secondary"], by_name["nn.EmbeddingBag"]
    torch.testing.assert_close(two(indices), bag(indices))


def measure(ids: int, batches: list[int], arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    device, dtype = torch.device(arguments.device), DTYPES[arguments.dtype]
    everyone = list(candidates(ids, arguments.dim, arguments.share, dtype, device))
    found = [candidate for candidate in everyone if isinstance(candidate, Candidate)]
    about = {"device": device_name(device), "dtype": arguments.dtype, "dim": arguments.dim, "ids": ids}
    for name in everyone:
        if isinstance(name, str):
            yield {**about, "candidate": name, "note": "does not fit"}
    generator = torch.Generator(device).manual_seed(1)
    for batch in batches:
        indices = torch.randint(ids, (batch,), generator=generator, device=device)
        check_agreement(found, indices[:1000])
        for phase in PHASES:
            works = [work_of(candidate, phase, indices, arguments.cuda_graph) for candidate in found]
            seconds: list[list[float]] = [[] for _ in found]
            for repeat in range(_WARM_UP + arguments.repeats):
                indices.random_(ids, generator=generator)
                for work, taken in zip(works, seconds, strict=True):
                    taken.append(seconds_of(work, device))
                if repeat + 1 == _WARM_UP:
                    for taken in seconds:
                        taken.clear()
            for candidate, taken in zip(found, seconds, strict=True):
                yield {**about, **described(candidate, phase, batch, sorted(taken))}


def described(candidate: Candidate, phase: str, batch: int, taken: list[float]) -> dict[str, object]:
    median, least = statistics.median(taken), least_bytes(candidate, phase, batch)
    low, high = taken[int(0.2 * (len(taken) - 1))], taken[-1 - int(0.2 * (len(taken) - 1))]
    return {
        "candidate": candidate.name,
        "rows": len(candidate.table),
        "batch": batch,
        "phase": phase,
        "microseconds": f"{1e6 * median:.1f}",
        "p20": f"{1e6 * low:.1f}",
        "p80": f"{1e6 * high:.1f}",
        "repeats": len(taken),
        "least_megabytes": f"{least / 1e6:.2f}",
        "gigabytes_a_second": f"{least / median / 1e9:.1f}",
        "note": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ids", type=float, nargs="+", default=[1e5])
    parser.add_argument("--batch", type=float, nargs="+", default=[8192])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.25, help="rows of the codebook as a share of the ids")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--cuda-graph", action="store_true", help="time replays of CUDA graphs")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file, too")
    arguments = parser.parse_args()
    rows = []
    on_cuda = torch.device(arguments.device).type == "cuda"
    machine = {
        "operations": "kernels" if on_cuda and kernels_obstacle() is None else "PyTorch",
        "cuda_graph": arguments.cuda_graph,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **describe_machine(),
    }
    for ids in map(int, arguments.ids):
        for row in measure(ids, [int(batch) for batch in arguments.batch], arguments):
            rows.append(row | machine)
            print(
                f"{ids:>11,} ids  {row.get('batch', 0):>9,}  {row.get('phase', ''):20}  {row['candidate']:22} "
                f"{row.get('microseconds', '-'):>10} us ({row.get('p20', '-')} to {row.get('p80', '-')})  "
                f"{row.get('least_megabytes', '-'):>9} MB  {row.get('gigabytes_a_second', '-'):>7} GB/s  {row['note']}",
                flush=True,
            )
    if arguments.out:
        write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
