"""Reading a folder of Parquet over ranks beside one process: memory, processors' seconds and bytes.

    python -m benchmarks.reading --rows 1e8 --ranks 4 --out benchmarks/results/reading.csv

Makes a folder of 20 files, row groups of a million rows, users and items in proportions of 1 to 20 and 1 to 100 rows,
as integers or (`--strings`) as strings of 12 letters, a part of the pairs repeated. One process makes a graph of it,
with what a share of it knows of the whole; then as many as `--ranks` says, joined by gloo, each its share. Memory is
the most that a process held of its own (RssAnon, sampled), beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import torch.distributed as dist

from baco_gpu import BipartiteGraph
from baco_gpu.clustering.solve.weights import integer_edges
from baco_gpu.distributed.reading import read_share
from baco_gpu.distributed.torch_ranks import TorchRanks
from benchmarks.distributed import Peak, held
from benchmarks.machine import describe_machine, write_rows

_FILES, _GROUP = 20, 1 << 20
_ROWS_A_USER, _ROWS_AN_ITEM = 20, 100


def make_folder(folder: Path, rows: int, strings: bool) -> None:
    rng = np.random.default_rng(0)
    for number, part in enumerate(np.diff(np.linspace(0, rows, _FILES + 1).astype(np.int64))):
        columns = {
            name: pa.array((rows // share * rng.random(part) ** 2).astype(np.int64) * 1_000_003 + 7)
            for name, share in (("user", _ROWS_A_USER), ("item", _ROWS_AN_ITEM))
        }
        if strings:
            columns = {name: pc.utf8_lpad(ids.cast(pa.string()), 12, "x") for name, ids in columns.items()}
        file = folder / f"part-{number:02}.parquet"
        pa.parquet.write_table(pa.table(columns), file, row_group_size=_GROUP, use_dictionary=False)


def measure(folder: Path, rank: int, size: int) -> dict[str, Any]:
    """One process of `size`, or with size 0 a plain one."""
    numba.set_num_threads(1)
    pa.set_cpu_count(1)
    received: dict[str, int] = {}
    small = folder.parent / "small"
    if not size:
        BipartiteGraph.from_file(small).first_twins()
        before, started, worked = held(), time.perf_counter(), time.process_time()
        with Peak() as peak:
            graph = BipartiteGraph.from_file(folder)
            integer_edges(graph)
            graph.first_twins()
            checksum, edges, own = graph.checksum(), graph.num_edges, graph.num_edges
    else:
        store = dist.FileStore(str(folder.parent / f"store-{size}"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=30))
        ranks = TorchRanks(dist.group.WORLD)
        read_share(ranks, small)
        ranks.received.clear()
        before, started, worked = held(), time.perf_counter(), time.process_time()
        with Peak() as peak:
            share = read_share(ranks, folder)
            checksum, edges, own = share.checksum(), share.num_edges, len(share.own.csr.neighbors)
        received = dict(ranks.received)
        ranks.table(0)
        dist.destroy_process_group()
    return {
        "seconds": time.perf_counter() - started,
        "worked": time.process_time() - worked,
        "peak": peak.most - before,
        "kept": held() - before,
        "edges": edges,
        "own": own,
        "received": sum(received.values()),
        "checksum": checksum,
    }


def run(folder: Path, size: int) -> list[dict[str, Any]]:
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.reading", f"--folder={folder}", f"--size={size}"]
    processes = [
        subprocess.Popen([*command, f"--rank={rank}"], env=environment, stdout=subprocess.PIPE)
        for rank in range(max(size, 1))
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4])
    parser.add_argument("--strings", action="store_true", help="ids are strings")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder, arguments.rank, arguments.size)))
        return
    table, checksums = [], set()
    with tempfile.TemporaryDirectory() as name:
        for part, rows in (("small", 1000), ("clicks", int(arguments.rows))):
            (Path(name) / part).mkdir()
            make_folder(Path(name) / part, rows, arguments.strings)
        for size in (0, *arguments.ranks):
            found = run(Path(name) / "clicks", size)
            checksums |= {one["checksum"] for one in found}
            table.append(
                {
                    "rows": int(arguments.rows),
                    "edges": found[0]["edges"],
                    "ids": "strings" if arguments.strings else "integers",
                    "ranks": size or "one process",
                    "peak_megabytes_a_rank": round(max(one["peak"] for one in found) / 1e6),
                    "kept_megabytes_a_rank": round(max(one["kept"] for one in found) / 1e6),
                    "most_edges_a_rank": max(one["own"] for one in found),
                    "received_megabytes_a_rank": round(max(one["received"] for one in found) / 1e6),
                    "processor_seconds_a_rank": round(max(one["worked"] for one in found), 1),
                    "seconds": round(max(one["seconds"] for one in found), 1),
                    "checksum": found[0]["checksum"][:12],
                    **describe_machine(),
                }
            )
            print(table[-1], flush=True)
    assert len(checksums) == 1, "not the graph of one process"
    if arguments.out:
        write_rows(arguments.out, table)


if __name__ == "__main__":
    main()
