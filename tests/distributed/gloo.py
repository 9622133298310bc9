"""Processes that gloo joins, each with a function of `distributed.work` to call."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
_PATIENCE = 300.0  # seconds, for a busy machine


def run(work: Callable[..., Any], size: int, *, without: Iterable[int] = ()) -> dict[int, Any]:
    """What `work(rank, group)` gives on every rank; AssertionError where it fails on one.

    Ranks that are not waited for are killed in the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "distributed.gloo", work.__name__, str(size), folder]
        processes = [
            subprocess.Popen([*command, str(rank)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
            for rank in range(size)
        ]
        found = {}
        try:
            for rank in sorted(set(range(size)) - set(without)):
                _, errors = processes[rank].communicate(timeout=_PATIENCE)
                assert processes[rank].returncode == 0, f"rank {rank}: {errors}"
                found[rank] = pickle.loads(Path(folder, str(rank)).read_bytes())
        finally:
            for process in processes:
                process.kill()
                process.wait()
                process.stderr.close()
    return found


def main(name: str, size: str, folder: str, rank: str) -> None:
    import torch.distributed as dist

    from distributed import work

    store = dist.FileStore(f"{folder}/store", int(size))
    limit = timedelta(seconds=_PATIENCE)
    dist.init_process_group("gloo", store=store, rank=int(rank), world_size=int(size), timeout=limit)
    result = getattr(work, name)(int(rank), dist.group.WORLD)
    Path(folder, rank).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
