"""What is left of a trained model's recall once its tables are encoded at small budgets, before they are trained on.

    python -m benchmarks.encoding beauty.npz --model mf --batch-size 4096 --lr 4e-3 --evaluate-every 4 --patience 3
    python -m benchmarks.encoding beauty.npz --tables beauty-mf.npz --model mf --budgets 0.02,0.03125 --out encoding.csv

The full tables are trained first, and kept as `--tables` (arrays `users` and `items`) where that file is not there.
Then they are encoded as product codes, as trellis codes, and as trellis codes of which all items have as many bytes;
and shared: a row of floats is the mean of those of a co-cluster's ids (method `bisecting` without second rows). All
bytes count, those of indices and places too. Errors are the share of the squares of rows that is left.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu import BalancedCoclustering, BipartiteGraph, CodebookEmbedding
from baco_gpu.budget import Budget, TableSize
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.data.readers import load_split
from baco_gpu.errors import UnreachableBudgetError
from baco_gpu.evaluation.ranking import evaluate_ranking
from baco_gpu.methods.product_plan import plan_product
from baco_gpu.methods.trellis_plan import plan_trellis
from baco_gpu.models.model import build_model
from baco_gpu.tables.embedding_table import EmbeddingTable, encode
from baco_gpu.tables.full import size_of
from baco_gpu.training import TrainingSettings, train
from benchmarks.machine import describe_machine, write_rows

K = 20
Pair = tuple[EmbeddingTable, EmbeddingTable]


def product(graph: BipartiteGraph, size: TableSize, budget: Budget) -> Pair:
    return plan_product(budget, size).tables(size)


def trellis(graph: BipartiteGraph, size: TableSize, budget: Budget) -> Pair:
    return plan_trellis(budget, size, graph.item_degrees).tables(size)


def even_trellis(graph: BipartiteGraph, size: TableSize, budget: Budget) -> Pair:
    return plan_trellis(budget, size).tables(size)


def shared(graph: BipartiteGraph, size: TableSize, budget: Budget) -> Pair:
    found = (
        BalancedCoclustering(
            budget.ratio,
            budget_measure=budget.measure,
            solver="bisecting",
            secondary="none",
            embedding_dim=size.embedding_dim,
        )
        .fit(graph)
        .result_
    )
    users, items = (CodebookEmbedding(side.labels, size.embedding_dim) for side in (found.users, found.items))
    return users, items


CANDIDATES: dict[str, Callable[[BipartiteGraph, TableSize, Budget], Pair]] = {
    "product codes": product,
    "trellis codes": trellis,
    "trellis codes, items alike": even_trellis,
    "means of co-clusters": shared,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", choices=("mf", "lightgcn"), default="mf")
    parser.add_argument("--budgets", default="0.02,0.03125,0.0625,0.1")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--evaluate-every", type=int, default=2)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    split = load_split(arguments.data, seed=arguments.seed)
    model = full_model(split, arguments)
    users, items = (model.tables[name].weight.detach().clone() for name in ("users", "items"))
    graph = BipartiteGraph.from_interactions(split.train)
    size = TableSize(split.num_users, split.num_items, arguments.dim)
    about = {"data": Path(arguments.data).stem, "model": arguments.model, "seed": arguments.seed}
    known = {"codes": "full", "budget": 1.0, "share": 1.0, "error_users": 0.0, "error_items": 0.0, "seconds": 0.0}
    rows = [{**about, **known, **recalls(model, split, users, items), **describe_machine()}]
    for budget in map(float, arguments.budgets.split(",")):
        for name in arguments.candidates:
            started = time.perf_counter()
            try:
                tables = CANDIDATES[name](graph, size, Budget(ratio=budget, measure="bytes"))
            except UnreachableBudgetError:
                continue
            figures = encoded(tables, (users, items), arguments.seed)
            figures |= {"codes": name, "budget": budget, "share": round(size_of(*tables).nbytes / size.full_bytes, 5)}
            figures["seconds"] = round(time.perf_counter() - started, 1)
            weights = [table.weight.detach() for table in tables]
            rows.append({**about, **figures, **recalls(model, split, *weights), **describe_machine()})
            print(", ".join(f"{key} {value}" for key, value in list(rows[-1].items())[:11]), flush=True)
    if arguments.out:
        write_rows(arguments.out, rows)


def full_model(split: SplitInteractions, arguments: argparse.Namespace) -> Any:
    tables = {"users": split.num_users, "items": split.num_items}
    made = {name: nn.Embedding(count, arguments.dim) for name, count in tables.items()}
    model = build_model(arguments.model, made, split)
    if arguments.tables is not None and arguments.tables.exists():
        with np.load(arguments.tables) as kept, torch.no_grad():
            for name, table in made.items():
                table.weight.copy_(torch.from_numpy(kept[name]))
        return model
    told = {name: getattr(arguments, name) for name in ("epochs", "batch_size", "evaluate_every", "patience", "seed")}
    train(model, split, TrainingSettings(**told, learning_rate=arguments.lr))
    if arguments.tables is not None:
        np.savez(arguments.tables, **{name: table.weight.detach().numpy() for name, table in made.items()})
    return model


def encoded(tables: Pair, trained: tuple[Tensor, Tensor], seed: int) -> dict[str, Any]:
    """Store trained rows in tables; the shares of their squares that are left."""
    shares = {}
    for table, rows in zip(tables, trained, strict=True):
        if isinstance(table, CodebookEmbedding) and table.num_rows < table.num_embeddings:
            sums = torch.zeros((table.num_rows, rows.shape[1])).index_add_(0, table.assignments.long(), rows)
            table.write_rows(sums / torch.bincount(table.assignments, minlength=table.num_rows).unsqueeze(1))
        else:
            table.write_rows(rows)
    encode(tables, seed)
    for name, table, rows in zip(("users", "items"), tables, trained, strict=True):
        wanted = table.latent_rows() if hasattr(table, "latent_rows") else rows  # which encoding has turned
        left = (table.weight.detach() - wanted).square().sum() / wanted.square().sum()
        shares[f"error_{name}"] = round(float(left), 4)
    return shares


def recalls(model: Any, split: SplitInteractions, users: Tensor, items: Tensor) -> dict[str, float]:
    with torch.no_grad():
        for name, rows in (("users", users), ("items", items)):
            model.tables[name].weight.copy_(rows)
        parts = {"validation": split.validation, "test": split.test}
        found = {
            name: evaluate_ranking(*model.ranked(), split.train, part, (K,))[f"recall@{K}"]
            for name, part in parts.items()
        }
    return {f"recall@{K} of {name}": round(value, 5) for name, value in found.items()}


if __name__ == "__main__":
    main()
