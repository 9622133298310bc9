"""The best 50 items of every user: ours beside implicit and faiss, in turns, in one process.

    python -m benchmarks.ranking gowalla.npz --out benchmarks/results/ranking.csv

Vectors are those of the set's spectral embedding, of 64 dimensions: real ones, without a training. Who has held-out
items asks. Seen items are left out, but not by faiss, which takes no list for each. Items as codes take 16 bytes a row,
ours and faiss's, a sixteenth of the floats. `overlap` is the share of the 50 best by the floats, seen items left out or
not alike, that are found. Seconds are of processor time by default, which other work on the machine changes less; the
ratio is that of the medians. The floor is what the product of all vectors alone takes, at the rate of a large product
of matrices on this machine.

Peers that are not installed are left out: pip install implicit faiss-cpu
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pandas
import scipy.sparse
import torch
from threadpoolctl import threadpool_limits

from baco_gpu import ProductCodebookEmbedding, Recommender, SplitInteractions, load_split
from baco_gpu.clustering.bisecting.spectral_rows import spectral_rows
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.interactions import Interactions
from baco_gpu.evaluation import evaluate_ranking
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.tables.export import served_table
from benchmarks.machine import describe_machine, write_rows

K = 50
Vectors = tuple[np.ndarray, np.ndarray]
Call = Callable[[], np.ndarray | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a set of interactions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="seconds of the clock in place of the processor's")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file, too")
    arguments = parser.parse_args()
    threads = arguments.threads
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        split = load_split(arguments.data)
        clock = time.perf_counter if arguments.wall else time.process_time
        rows = compare(Path(arguments.data).stem, split, arguments.repeats, threads, clock)
    if arguments.out:
        write_rows(arguments.out, rows)


def compare(
    name: str, split: SplitInteractions, repeats: int, threads: int, clock: Callable[[], float]
) -> list[dict[str, object]]:
    """A row for each way; each has run once before. Who has held-out items asks, and has seen those to train on."""
    users, items = vectors_of(split.train)
    # Ids that are indices, as the peers have them.
    seen = dataclasses.replace(split.train, user_vocabulary=None, item_vocabulary=None)
    asking = np.unique(split.test.users)
    ways = {
        "floats": {"ours": ours(users, items, seen, asking), **peers(users, items, seen, asking, threads)},
        "floats, recall": {"ours": metrics(users, items, split)},
        "codes": coded(users, items, seen, asking, threads),
    }
    nearest = answers_of(Recommender(users, items).recommend(asking, K, exclude_seen=False), len(asking))
    unseen = ours(users, items, seen, asking)()
    floor = 2 * len(asking) * len(items) * users.shape[1] / product_rate(clock)
    rows: list[dict[str, object]] = []
    for kind, calls in ways.items():
        found = {way: call() for way, call in calls.items()}
        seconds: dict[str, list[float]] = {way: [] for way in calls}
        for _ in range(repeats):
            for way, call in calls.items():
                started = clock()
                call()
                seconds[way].append(clock() - started)
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        for way, median in medians.items():
            answers, best = found[way], nearest if way.startswith("faiss") else unseen
            row: dict[str, object] = {
                "set": name,
                "users": len(asking),
                "items": len(items),
                "from": kind,
                "way": way,
                "median_seconds": f"{median:.3f}",
                "times_ours": f"{median / medians['ours']:.2f}",
                "floor_seconds": f"{floor:.3f}",
                "overlap": "" if answers is None else f"{overlap(answers, best):.4f}",
                "threads": threads,
                "repeats": repeats,
                "load": f"{os.getloadavg()[0]:.1f}",
            }
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            rows.append({**row, **describe_machine()})
    return rows


def vectors_of(clicks: Interactions) -> Vectors:
    graph = BipartiteGraph.from_interactions(clicks)
    users, items = (side.rows for side in spectral_rows(graph, integer_weights(graph, "degree"), 0))
    return tuple(np.ascontiguousarray(rows / np.abs(rows).max(), np.float32) for rows in (users, items))


def product_rate(clock: Callable[[], float]) -> float:
    """Operations a second of a product of matrices."""
    square = np.ones((2048, 2048), np.float32)
    took = []
    for _ in range(5):
        started = clock()
        square @ square
        took.append(clock() - started)
    return float(2 * 2048**3 / statistics.median(took))


def overlap(found: np.ndarray, best: np.ndarray) -> float:
    """The share of the best that were found; both of shape (users, K)."""
    return float(np.mean([len(np.intersect1d(one, other)) for one, other in zip(found, best, strict=True)]) / K)


def ours(users: np.ndarray, items: np.ndarray, seen: Interactions, asking: np.ndarray) -> Call:
    recommender = Recommender(users, items, seen)

    def answer() -> np.ndarray:
        return answers_of(recommender.recommend(asking, K), len(asking))

    return answer


def answers_of(frame: pandas.DataFrame, users: int) -> np.ndarray:
    """The items of a frame of answers, of shape (users, K)."""
    return frame["item"].to_numpy().reshape(users, K)


def metrics(users: np.ndarray, items: np.ndarray, split: SplitInteractions) -> Call:
    tables = torch.from_numpy(users), torch.from_numpy(items)

    def rank() -> None:
        evaluate_ranking(*tables, [split.train], split.test, (K,))

    return rank


def peers(
    users: np.ndarray, items: np.ndarray, seen: Interactions, asking: np.ndarray, threads: int
) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    if importlib.util.find_spec("implicit") is None:
        print("implicit is not installed: it is left out", flush=True)
    else:
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(factors=users.shape[1], num_threads=threads)
        model.user_factors, model.item_factors = users, items
        pairs = seen.users, seen.items
        liked = scipy.sparse.csr_matrix((np.ones(len(seen), np.float32), pairs), (len(users), len(items)))[asking]
        calls["implicit's recommend"] = lambda: model.recommend(asking, liked, N=K)[0]
    if importlib.util.find_spec("faiss") is None:
        print("faiss is not installed: it is left out", flush=True)
    else:
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(items.shape[1])
        index.add(items)
        own = users[asking]
        calls["faiss, flat, seen items among them"] = lambda: index.search(own, K)[1]
    return calls


def coded(
    users: np.ndarray, items: np.ndarray, seen: Interactions, asking: np.ndarray, threads: int
) -> dict[str, Call]:
    """Items as codes of 16 bytes a row; those who ask are floats, as with faiss."""
    rows = torch.from_numpy(items)
    product = ProductCodebookEmbedding.from_pretrained(rows, np.arange(len(items)), subspaces=16, centroids=256)
    product.drop_latent_weight()
    calls = {"ours": ours(users, served_table(product), seen, asking)}
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexPQFastScan(items.shape[1], 32, 4, faiss.METRIC_INNER_PRODUCT)
        index.train(items)
        index.add(items)
        own = users[asking]
        calls["faiss, PQ fast scan, seen items among them"] = lambda: index.search(own, K)[1]
    return calls


if __name__ == "__main__":
    main()
