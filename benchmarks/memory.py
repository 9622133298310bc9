"""What it takes to train a table that is large beside its batches: memory, and the time of a step.

    python -m benchmarks.memory
    python -m benchmarks.memory --device cuda --ids 1e8 --out memory.csv

Every candidate looks a batch of random ids up, takes the gradient of the sum of squares and makes a step, in a process
of its own, so that memory is its own too: the most that the process (or the GPU) ever held, less what it held after a
step of a table of eight rows, when all libraries are there. Candidates are `nn.Embedding` with Adam and with
SparseAdam, FBGEMM's table in float32 and float16 with row-wise Adagrad where that is installed (on a CPU it trains no
other), a codebook of a quarter of the rows with Adam, and tables of `QuantizedEmbedding`. Beside the time stands the
least that a step must read and write.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from baco_gpu import CodebookEmbedding, QuantizedEmbedding, RowwiseRMSprop
from benchmarks.machine import describe_machine, device_name, write_rows

Work = Callable[[torch.Tensor], None]
SHARE = 4  # ids to a row of the codebook
_FEW = 8  # rows, of a table that is there for nothing but to load what a step needs


class Size(NamedTuple):
    ids: int
    dim: int
    batch: int


def adam(size: Size, device: torch.device) -> Work:
    table = nn.Embedding(size.ids, size.dim, device=device)
    return _step(table, torch.optim.Adam(table.parameters(), fused=True))


def sparse_adam(size: Size, device: torch.device) -> Work:
    table = nn.Embedding(size.ids, size.dim, sparse=True, device=device)
    return _step(table, torch.optim.SparseAdam(table.parameters()))


def codebook(size: Size, device: torch.device) -> Work:
    rows = max(size.ids // SHARE, 1)
    table = CodebookEmbedding(torch.arange(size.ids) % rows, size.dim, device=device)
    return _step(table, torch.optim.Adam(table.parameters(), fused=True))


def low_precision(bits: int) -> Callable[[Size, torch.device], Work]:
    def made(size: Size, device: torch.device) -> Work:
        table = QuantizedEmbedding(size.ids, size.dim, bits=bits, device=device)
        return _step(table, RowwiseRMSprop(table))

    return made


def fbgemm(precision: str) -> Callable[[Size, torch.device], Work]:
    def made(size: Size, device: torch.device) -> Work:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType, SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            EmbeddingLocation,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        place = EmbeddingLocation.DEVICE, ComputeDevice.CUDA
        if device.type == "cpu":
            place = EmbeddingLocation.HOST, ComputeDevice.CPU
        table = SplitTableBatchedEmbeddingBagsCodegen(
            [(size.ids, size.dim, *place)],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            weights_precision=SparseType(precision),
            stochastic_rounding=True,
        )
        offsets = torch.arange(size.batch + 1, device=device)

        def work(ids: torch.Tensor) -> None:  # a bag of one id each; the step is part of its backward pass
            table(ids, offsets).square().sum().backward()

        return work

    return made


CANDIDATES: dict[str, Callable[[Size, torch.device], Work]] = {
    "nn.Embedding, Adam": adam,
    "nn.Embedding, SparseAdam": sparse_adam,
    "FBGEMM float32, row-wise Adagrad": fbgemm("fp32"),
    "FBGEMM float16, row-wise Adagrad": fbgemm("fp16"),
    "codebook of a quarter, Adam": codebook,
    "low precision, 16 bits": low_precision(16),
    "low precision, 8 bits": low_precision(8),
    "low precision, 7 bits": low_precision(7),
    "low precision, 4 bits": low_precision(4),
}
_STATE = {"nn.Embedding, Adam": 28, "codebook of a quarter, Adam": 28}  # bytes a value that a dense step moves


def least_bytes(name: str, size: Size) -> int:
    """What a step cannot do without: rows read and written, and their gradient; all of a table where Adam is dense."""
    batch_values = size.batch * size.dim
    if name in _STATE:
        rows = size.ids // (SHARE if name.startswith("codebook") else 1)
        return 8 * batch_values + (4 + _STATE[name]) * rows * size.dim
    if name == "nn.Embedding, SparseAdam":
        return (8 + 8 + 16) * batch_values
    width = {"FBGEMM float32": 4.0, "FBGEMM float16": 2.0}.get(name.partition(",")[0])
    if width is None:
        width = int(name.split(", ")[1].removesuffix(" bits")) / 8
    return int((8 + 3 * width) * batch_values)


def _step(table: nn.Module, optimizer: torch.optim.Optimizer) -> Work:
    def work(ids: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        table(ids).square().sum().backward()
        optimizer.step()

    return work


def measure(name: str, size: Size, device: torch.device, repeats: int) -> dict[str, float]:
    """Most bytes held beyond those without a table, and seconds of a step: median, 20th and 80th percentile."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, size.ids, (size.batch,), generator=generator).to(device) for _ in range(repeats + 2)]
    CANDIDATES[name](Size(_FEW, size.dim, _FEW), device)(torch.arange(_FEW, device=device))
    before = _held(device)
    work = CANDIDATES[name](size, device)
    seconds = []
    for ids in batches:
        started = time.perf_counter()
        work(ids)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    seconds = sorted(seconds[2:])  # the first two create state, and warm up
    last = len(seconds) - 1
    return {
        "bytes": _held(device) - before,
        "seconds": statistics.median(seconds),
        "p20": seconds[last // 5],
        "p80": seconds[last - last // 5],
    }


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available() -> list[str]:
    there = importlib.util.find_spec("fbgemm_gpu") is not None
    if not there:
        print("fbgemm_gpu is not installed: its tables are left out", flush=True)
    return [name for name in CANDIDATES if there or not name.startswith("FBGEMM")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=float, default=2e6)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file, too")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, help="all that are installed, by default")
    parser.add_argument("--candidate", choices=CANDIDATES, help="measure one in this process, and print JSON")
    arguments = parser.parse_args()
    size = Size(int(arguments.ids), arguments.dim, arguments.batch)
    if arguments.candidate:
        print(json.dumps(measure(arguments.candidate, size, torch.device(arguments.device), arguments.repeats)))
        return
    own = [f"--{name}={getattr(arguments, name)}" for name in ("ids", "dim", "batch", "repeats", "device")]
    table_bytes = 4 * size.ids * size.dim
    rows = []
    for name in arguments.candidates or available():
        command = [sys.executable, "-m", "benchmarks.memory", *own, f"--candidate={name}"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        rows.append(
            {
                "candidate": name,
                **size._asdict(),
                "megabytes": round(found["bytes"] / 1e6, 1),
                "of_float_table": round(found["bytes"] / table_bytes, 3),
                "milliseconds": round(found["seconds"] * 1e3, 2),
                "p20": round(found["p20"] * 1e3, 2),
                "p80": round(found["p80"] * 1e3, 2),
                "least_megabytes_a_step": round(least_bytes(name, size) / 1e6, 2),
                "device": device_name(torch.device(arguments.device)),
                **describe_machine(),
            }
        )
        row = rows[-1]
        print(
            f"{name:34} {row['megabytes']:10,.1f} MB {row['of_float_table']:7.2f} of the table "
            f"{row['milliseconds']:9.2f} ms ({row['p20']:.2f} to {row['p80']:.2f}), "
            f"{row['least_megabytes_a_step']:.2f} MB at least",
            flush=True,
        )
    if arguments.out:
        write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
