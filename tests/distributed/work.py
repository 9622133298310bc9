"""What the processes of these tests do: functions of their rank and group, see `distributed.gloo`."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist
from sklearn.base import clone

from baco_gpu import BalancedCoclustering, BipartiteGraph
from baco_gpu.clustering.backends.share import even_bounds, share_of
from baco_gpu.clustering.solve.weights import integer_edges
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.distributed.coclustering import share_graph
from baco_gpu.distributed.torch_ranks import TorchRanks
from baco_gpu.errors import BacoError
from baco_gpu.models import build_model
from baco_gpu.tables import ShardedTable
from baco_gpu.training import ShardedCheckpoint, TrainingSettings, train
from distributed.tables import clicks, damage, in_files
from graphs import random_graph
from planted_training import ITEMS, USERS, planted_split

CASES = {
    "budget": {},
    "shared codebooks": {"codebooks": "shared", "secondary": "both"},
    "roots": {"weights": "sqrt", "budget": 30},
    "published": {"solver": "paper", "budget": None, "gamma": 2.0},
}


def graphs() -> dict[str, BipartiteGraph]:
    nothing = [], []
    return {
        "weighted": random_graph(120, 90, 700, seed=1, weighted=True),
        "plain": random_graph(90, 130, 800, seed=2),
        "no edge": BipartiteGraph.from_edges(*nothing, num_users=3, num_items=2),
        "no item": BipartiteGraph.from_edges(*nothing, num_users=5, num_items=0),
        "nobody": BipartiteGraph.from_edges(*nothing),
        "fewer nodes than ranks": BipartiteGraph.from_edges([0, 0], [0, 1]),
    }


def fingerprint(graph, **parameters) -> dict[str, object]:
    """All that a result says and its file keeps, without its seconds."""
    estimator = BalancedCoclustering(**parameters).fit(graph)
    result = estimator.result_
    result.seconds.clear()
    with tempfile.TemporaryDirectory() as folder:
        file = result.save(Path(folder, "codes.safetensors")).read_bytes()
    return {
        "labels": result.labels_sha256,
        "objective": result.objective,
        "trace": result.objective_trace.tolist(),
        "secondary": [side.tobytes() for side in (result.users.secondary, result.items.secondary) if side is not None],
        "file": file,
    }


def solve(rank, world):
    """For every number of ranks, graph and case: what one process finds, and what this one of several finds."""
    groups = {size: dist.new_group(list(range(size))) for size in (2, 3, 4)}
    found = {}
    for name, graph in graphs().items():
        for case, parameters in CASES.items() if name in ("weighted", "plain") else [("all", {"budget": 1.0})]:
            if rank == 0:
                found[1, name, case] = fingerprint(graph, **parameters)
            for size, group in groups.items():
                if rank < size:
                    found[size, name, case] = fingerprint(graph, **parameters, process_group=group)
    return found


def large(rank, world):
    """What one process, and each number of ranks by two cuts of the nodes, find in a larger planted graph."""
    graph = BipartiteGraph.from_interactions(planted_coclusters(30_000, 12_000, 400_000, 200)[0])
    parameters = {"budget": 0.2, "secondary": "both"}
    edges, rng = integer_edges(graph), np.random.default_rng(0)
    found = {}
    for size in (1, 2, 3, 4):
        group = dist.new_group(list(range(size)))
        uneven = tuple(np.sort([0, *rng.integers(0, end, size - 1), end]) for end in (graph.num_users, graph.num_items))
        for name, bounds in (("even", even_bounds(graph, size)), ("uneven", uneven)):
            if rank < size:
                share = share_of(graph, edges, rank, bounds)
                found[size, name] = fingerprint(share, **parameters, process_group=group)
    return found, fingerprint(graph, **parameters) if rank == 0 else None


def read(rank, world):
    """What ranks find in a folder of which each reads its part, whose file is damaged in the end."""
    every = [None]
    if rank == 0:
        every = [in_files(Path(tempfile.mkdtemp()), clicks(600), files=3, group=100)]
    dist.broadcast_object_list(every, group=world)
    (folder,) = every
    parameters = {"budget": 0.4, "secondary": "both", "weights": "sqrt"}
    found = fingerprint(share_graph(folder, world, weight_column="weight"), **parameters, process_group=world)
    path = fingerprint(str(folder), **parameters, process_group=world)
    dist.barrier(group=world)
    if rank == 0:
        damage(folder / "part-1.parquet")
    dist.barrier(group=world)
    fault = told(lambda: share_graph(folder, world)).replace(str(folder), "")
    if rank > 0:
        return found, path, fault
    frame = clicks(600)
    alone = BipartiteGraph.from_frame(frame, weight_column="weight"), BipartiteGraph.from_frame(frame)
    shutil.rmtree(folder)
    assert (found, path) == tuple(fingerprint(graph, **parameters) for graph in alone)
    return found, path, fault


def large_read(rank, world):
    """Fingerprints of a table of strings, read by all ranks and, on the first, by one process."""
    every = [None]
    if rank == 0:
        frame = clicks(300_000)
        frame["user"] = "u" + (frame["user"] * 31 + np.arange(len(frame)) % 4000).astype(str)
        every = [in_files(Path(tempfile.mkdtemp()), frame, files=7, group=11_111)]
    dist.broadcast_object_list(every, group=world)
    (folder,) = every
    parameters, reading = {"budget": 0.2}, {"core": 2, "weighting": "counts", "weight_column": "weight"}
    together = fingerprint(share_graph(folder, world, **reading), **parameters, process_group=world)
    if rank > 0:
        return together, None
    alone = fingerprint(BipartiteGraph.from_file(folder, **reading), **parameters)
    shutil.rmtree(folder)
    return together, alone


def talk(rank, world):
    """What ranks send one another, and what has come."""
    ranks = TorchRanks(world)
    size = ranks.size
    table = ranks.table(rank, -rank, 2**62)
    gathered = ranks.gather(np.full((rank, 2), rank, np.int32), list(range(size)))
    # Rank r sends r + q rows to rank q.
    counts = np.add.outer(np.arange(size), np.arange(size))
    sent = np.repeat(np.arange(size) + 10 * rank, counts[rank]).astype(np.int64)
    arrived = ranks.exchange(sent, counts)
    return table.tolist(), [part.tolist() for part in gathered], arrived.tolist(), dict(ranks.received)


def told(work) -> str:
    """The error that `work` ends with."""
    try:
        work()
    except BacoError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def disagree(rank, world):
    """The errors of ranks that have different graphs, settings, faults."""
    graph = random_graph(20, 20, 60, seed=0)
    estimator = clone(BalancedCoclustering(process_group=world))

    def broken(one: int):
        def work():
            if rank == one:
                raise OSError("no space left on the device")

        return work

    def missing():
        raise OSError("no such file")

    return [
        told(lambda: estimator.fit(random_graph(20, 20, 60, seed=rank))),
        told(lambda: clone(estimator).set_params(gamma=1.0 + rank // 2).fit(graph)),
        told(lambda: TorchRanks(world).together(broken(2))),
        told(lambda: estimator.fit(graph if rank != 1 else "nowhere.parquet")),
        told(lambda: estimator.fit("nowhere.parquet")),
        told(lambda: TorchRanks(world).agree(**({"half_life": "3"} if rank == 1 else {}))),
        told(lambda: estimator.fit(graph)),
    ]


def work_together(rank, world):
    """All of the above, by as many of four ranks as each takes."""
    three = dist.new_group([0, 1, 2])
    first_three = rank < 3
    return (
        solve(rank, world),
        read(rank, world),
        talk(rank, three) if first_three else None,
        disagree(rank, three) if first_three else None,
    )


def keep(rank, world):
    """What tables and metrics come to in six epochs at once, and with a stop after three, by as many and by fewer."""
    shared = [tempfile.mkdtemp() if rank == 0 else None]
    dist.broadcast_object_list(shared, group=world)
    (folder,) = shared
    fewer = dist.new_group([0, 1])

    def run(group, epochs, name, resume=False):
        ranks, split = (None, planted_split()) if group is None else (TorchRanks(group), planted_split())
        tables = {"users": ShardedTable(USERS, 8, ranks), "items": ShardedTable(ITEMS, 8, ranks)}
        settings = TrainingSettings(epochs=epochs, batch_size=66, negatives=20, learning_rate=1e-2, patience=None)
        kept = ShardedCheckpoint(Path(folder, name), every=2, resume=resume, process_group=group)
        result = train(build_model("mf", tables, split), split, settings, [kept], ranks=ranks)
        rows = [table.read_rows().numpy().copy() for table in tables.values()]
        return rows, result.test, [(record.loss, record.validation) for record in result.history]

    whole = run(world, 6, "whole")
    run(world, 3, "stopped")
    found = {"whole": whole, "three": None, "again": told(lambda: run(world, 6, "stopped"))}
    if rank == 0:
        shutil.copytree(Path(folder, "stopped"), Path(folder, "for two"))
        shutil.copytree(Path(folder, "stopped"), Path(folder, "for one"))
    dist.barrier(group=world)
    elsewhere = "nowhere" if rank == 2 else "stopped"
    found["elsewhere"] = told(lambda: run(world, 6, elsewhere, resume=True)).replace(folder, "")
    found["three"] = run(world, 6, "stopped", resume=True)
    found["left"] = sorted(file.name for file in Path(folder, "stopped").iterdir())
    if rank < 2:
        found["two"] = run(fewer, 6, "for two", resume=True)
    if rank == 0:
        found["one"] = run(None, 6, "for one", resume=True)
        shutil.rmtree(Path(folder, "whole", "epoch-6"))
    dist.barrier(group=world)
    found["gone"] = told(lambda: run(world, 6, "whole", resume=True)).replace(folder, "")
    dist.barrier(group=world)
    if rank == 0:
        shutil.rmtree(folder)
    return found


def stop_one_by_one(rank, world):
    """The last rank fails where no other looks, the third hangs, the second is killed: what the others say."""
    limit = timedelta(seconds=3)
    four, three, two = (dist.new_group(list(range(size)), timeout=limit) for size in (4, 3, 2))
    said = []

    ranks = TorchRanks(four)
    ranks.table(rank)
    if rank == 3:
        try:
            with ranks.telling():
                raise MemoryError("no room for the rows of clusters")
        except MemoryError:
            time.sleep(600)
    said.append(told(lambda: ranks.table(rank)))

    ranks = TorchRanks(three)
    ranks.table(rank)
    if rank == 2:
        time.sleep(600)
    said.append(told(lambda: ranks.table(rank)))

    ranks = TorchRanks(two)
    ranks.table(rank)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    said.append(told(lambda: ranks.table(rank)))
    return said
