"""Many tables: AUC of a click model with 26 columns at a tenth of its tables' bytes, by ways to make them small.

    python -m benchmarks.many_tables --scale 0.1 --events 8e5 --seeds 0 1 2 --out benchmarks/results/many-tables.csv

The log is planted (`baco_gpu.data.synthetic.planted_clicks`): eight columns that tell of one another, the largest with
a million ids times `--scale`, and eighteen small ones, as in the Criteo sets. The model is in the manner of DLRM
(Naumov et al., arXiv 1906.00091). Every way sees the events once, in their order, by the same optimizer, and is judged
on the ones after. `baco` compresses half way (`compress_tables`) and trains on; the others are small from the start:

- hashing: an id has the row of its hash (Weinberger et al., ICML 2009);
- qr: the product of a row of the quotient and one of the remainder (Shi et al., arXiv 1909.02107);
- narrow: fewer dimensions, and a projection to the model's (Ginart et al., arXiv 1909.11810).

They leave alone the tables that `baco` does not look at, being small, and share the rest evenly, but for what a table
needs at least.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.columns import compress_tables
from baco_gpu.data.synthetic import planted_clicks
from baco_gpu.tables import begin_epoch, finalize
from baco_gpu.tables.embedding_table import Size
from baco_gpu.tables.full import tables_in
from benchmarks.machine import describe_machine, write_rows

DIM = 16
STD = 0.05  # of the rows that a model begins with
TIED = (1_000_000, 200_000, 50_000, 20_000, 10_000, 5_000, 2_000, 1_000)
OTHERS = (500, 300, 200, 100, 100, 50, 50, 30, 30, 24, 20, 15, 12, 10, 7, 5, 4, 3)
CLUSTERS = 64
OURS = {
    "baco": ("baco-multilevel", "product"),
    "baco, shared rows alone": ("baco-multilevel",),
    "baco, product codes alone": ("product",),
}


class ClickModel(nn.Module):
    """Tables, the inner products of their rows, and a small network."""

    def __init__(self, tables: list[nn.Module]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(tables)
        count = len(tables)
        self.register_buffer("pairs", torch.triu_indices(count, count, 1), persistent=False)
        self.top = nn.Sequential(nn.Linear(count * DIM + count * (count - 1) // 2, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, ids: Tensor) -> Tensor:
        rows = torch.stack([table(ids[:, column]) for column, table in enumerate(self.tables)], dim=1)
        products = torch.bmm(rows, rows.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        return self.top(torch.cat([rows.flatten(1), products], dim=1)).squeeze(1)


class Hashed(nn.Module):
    least = staticmethod(lambda ids: 1)

    def __init__(self, ids: int, rows: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(rows, DIM)
        self.register_buffer("hashes", torch.randint(rows, (ids,)))  # stands for a hash, which nobody stores

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows(self.hashes[ids])


class QuotientRemainder(nn.Module):
    least = staticmethod(lambda ids: 2 * math.ceil(math.sqrt(ids)))

    def __init__(self, ids: int, rows: int) -> None:
        super().__init__()
        # As many remainders as leave room for the quotients.
        self.parts = max(part for part in range(1, rows) if part + -(-ids // part) <= rows)
        self.remainders, self.quotients = nn.Embedding(self.parts, DIM), nn.Embedding(-(-ids // self.parts), DIM)

    def forward(self, ids: Tensor) -> Tensor:
        return self.remainders(ids % self.parts) * self.quotients(ids // self.parts)


class Narrow(nn.Module):
    least = staticmethod(lambda ids: -(-ids // DIM) + 1)

    def __init__(self, ids: int, rows: int) -> None:
        super().__init__()
        dim = min(rows * DIM // (ids + DIM), DIM)
        self.rows, self.wide = nn.Embedding(ids, dim), nn.Linear(dim, DIM, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.wide(self.rows(ids))


RIVALS: dict[str, type[Hashed | QuotientRemainder | Narrow]] = {
    "hashing": Hashed,
    "qr": QuotientRemainder,
    "narrow": Narrow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="of the ids of the eight large columns")
    parser.add_argument("--events", type=float, default=8e5, help="to train on; an eighth more are judged")
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--ways", nargs="+", default=["full", *OURS, *RIVALS])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        sizes = [max(4, int(size * arguments.scale)) for size in TIED] + list(OTHERS)
        count = int(arguments.events)
        log = planted_clicks(count + count // 8, sizes, CLUSTERS, tied=len(TIED), seed=seed)
        ids, clicked = torch.as_tensor(log.ids).long(), torch.as_tensor(log.clicked).float()
        for way in arguments.ways:
            started = time.perf_counter()
            found = measure(way, sizes, ids, clicked, count, seed, arguments)
            rows.append(
                {
                    "way": way,
                    "seed": seed,
                    **found,
                    "seconds": f"{time.perf_counter() - started:.0f}",
                    "largest": sizes[0],
                    "ids": sum(sizes),
                    "events": count,
                    "batch": arguments.batch,
                    "lr": arguments.lr,
                    **describe_machine(),
                }
            )
            print(way, seed, found, flush=True)
            if arguments.out:
                write_rows(arguments.out, rows)


def measure(
    way: str, sizes: list[int], ids: Tensor, clicked: Tensor, count: int, seed: int, arguments: argparse.Namespace
) -> dict[str, object]:
    """Train one way on the first `count` events, and judge it on the others."""
    torch.manual_seed(seed)
    model = ClickModel(tables_for(way, sizes, arguments.budget))
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=STD)
        if isinstance(module, QuotientRemainder):
            for part in (module.remainders, module.quotients):
                nn.init.normal_(part.weight, std=STD**0.5)
        if isinstance(module, Narrow):
            module.wide.weight.data.normal_(std=module.wide.in_features**-0.5)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr, fused=True)
    full_bytes = sum(sizes) * DIM * 4
    nbytes = sum(each.numel() * 4 for name, each in model.named_parameters() if name.startswith("tables."))
    seconds = 0.0
    half = count // 2
    train(model, optimizer, ids[:half], clicked[:half], arguments.batch)
    if way in OURS:
        started = time.perf_counter()
        data = {f"tables.{column}": ids[:half, column].numpy() for column in range(len(sizes))}
        report = compress_tables(model, data, arguments.budget, optimizer, methods=OURS[way], seed=seed)
        optimizer, seconds = report.optimizer or optimizer, time.perf_counter() - started
        print(report.plan, flush=True)
        begin_epoch(model, seed=seed)
        nbytes = Size.of(part for table in tables_in(model) for part in table.stored()).nbytes
    for part in torch.arange(half, count).chunk(4):  # codes follow the floats four times
        if way in OURS:
            begin_epoch(model, seed=seed)
        train(model, optimizer, ids[part], clicked[part], arguments.batch)
    if way in OURS:
        finalize(model, seed=seed)
    scores = torch.cat([model(part).detach() for part in ids[count:].split(1 << 14)])
    area = roc_auc_score(clicked[count:].numpy(), scores.numpy())
    loss = float(functional.binary_cross_entropy_with_logits(scores, clicked[count:]))
    return {
        "auc": f"{area:.5f}",
        "log_loss": f"{loss:.5f}",
        "bytes": nbytes,
        "share": f"{nbytes / full_bytes:.4f}",
        "seconds_compressing": f"{seconds:.1f}",
    }


def tables_for(way: str, sizes: list[int], budget: float) -> list[nn.Module]:
    """Full tables, or those of a way that is small from the start."""
    if way not in RIVALS:
        return [nn.Embedding(size, DIM) for size in sizes]
    most = budget * sum(sizes)
    small, taken = set(), 0
    for column in np.argsort(sizes, kind="stable"):
        taken += sizes[column]
        if taken > most / 20:
            break
        small.add(int(column))
    kept = sum(sizes[column] for column in small)
    share = (most - kept) / (sum(sizes) - kept)
    rival = RIVALS[way]
    rows = {
        column: max(rival.least(size), int(share * size)) for column, size in enumerate(sizes) if column not in small
    }
    largest = max(rows, key=lambda column: sizes[column])
    rows[largest] -= max(0, sum(rows.values()) + kept - int(most))  # what others cannot do without
    if rival is Narrow:
        rows = whole_dimensions(rows, sizes, int(most) - kept)
    return [
        rival(size, rows[column]) if column in rows else nn.Embedding(size, DIM) for column, size in enumerate(sizes)
    ]


def whole_dimensions(rows: dict[int, int], sizes: list[int], most: int) -> dict[int, int]:
    """Rows that are whole dimensions of all ids, and what that leaves for more of them, in the largest tables first."""

    def rows_of(column: int, dim: int) -> int:
        return -(-dim * (sizes[column] + DIM) // DIM)

    dims = {column: max(1, count * DIM // (sizes[column] + DIM)) for column, count in rows.items()}
    left = most - sum(rows_of(column, dim) for column, dim in dims.items())
    for column in sorted(dims, key=lambda column: -sizes[column]):
        while (
            dims[column] < DIM and (price := rows_of(column, dims[column] + 1) - rows_of(column, dims[column])) <= left
        ):
            dims[column] += 1
            left -= price
    return {column: rows_of(column, dim) for column, dim in dims.items()}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor, clicked: Tensor, batch: int) -> None:
    """One pass, in the order of the events."""
    for some, theirs in zip(ids.split(batch), clicked.split(batch), strict=True):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(some), theirs).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
