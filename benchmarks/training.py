"""How many training triples a second: MF and LightGCN over full tables and codebooks, and their peers.

All candidates train on the same batches of one set, in turns, so that a busy moment of the machine meets them all; a
repeat is a number of whole training steps as `train` makes them, and the median of the repeats counts. A codebook of a
quarter of the rows stands for any assignment: codes are drawn at random, which costs what others cost. The models here
take both losses, and a codebook that trains through the rounding to 4 bits; the sampled softmax sets every pair against
512 items where BPR takes one. Triples a second are of pairs in both. "mf, all rows" takes steps of Adam over all rows,
where "mf" moves those of the batch.

implicit's BPR, where it is installed, trains by SGD without locks, and draws its own triples: a repeat is an epoch.

torch_geometric's model runs twice where it is installed: over the edge list, as in its example, and over a CSR tensor
normalised beforehand, which is the most one can do for it. Its initial loss is compared with that of the LightGCN here.

    python -m benchmarks.training path/to/beauty.npz --output benchmarks/results/training.csv

On a machine with other work, `--clock cpu --threads 1` counts the seconds that a processor worked for the process.
On a GPU, `--cuda-graph` runs the steps of the models here as CUDA graphs, as `TrainingSettings.cuda_graph` does.
"""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.metadata
import importlib.util
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu import CodebookEmbedding, SplitInteractions, load_split
from baco_gpu.models import BipartiteAdjacency, MatrixFactorization, Model, Table, build_model, full_table
from baco_gpu.models.losses import LOSSES
from baco_gpu.training import Objective, TripleSampler, reset_embeddings
from baco_gpu.training.steps import Step, TrainingStep, training_step
from benchmarks.machine import describe_machine, write_rows

LAYERS = 2
WEIGHT_DECAY = 1e-4
OBJECTIVES = {loss: Objective(loss, weight_decay=WEIGHT_DECAY) for loss in LOSSES}
BPR = "bpr"
SHARE = 0.25

ALL_ROWS = "mf, all rows"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Batch = Tensor  # users, positives and negatives: (3, batch)
Loss = Callable[[Batch], Tensor]


class Candidate(NamedTuple):
    name: str
    table: str
    loss_name: str
    module: nn.Module
    loss: Loss


def random_codebook(
    count: int, dim: int, seed: int, *, secondary: bool = False, bits: int | None = None
) -> CodebookEmbedding:
    """A codebook of a quarter of `count` rows, each of which some id owns."""
    rng = np.random.default_rng(seed)
    rows = max(int(count * SHARE), 1)
    codes = rng.permutation(np.concatenate([np.arange(rows), rng.integers(0, rows, count - rows)]))
    return CodebookEmbedding(codes, dim, rng.integers(0, rows, count) if secondary else None, bits=bits)


def tables(split: SplitInteractions, dim: int) -> Iterator[tuple[str, Table, Table]]:
    sizes = split.num_users, split.num_items
    yield "full", full_table(sizes[0], dim), full_table(sizes[1], dim)
    kinds: dict[str, dict[str, Any]] = {
        "codebook": {},
        "codebook and secondary": {"secondary": True},
        "codebook of 4 bits": {"bits": 4},
    }
    for name, options in kinds.items():
        user_table, item_table = (random_codebook(size, dim, seed, **options) for seed, size in enumerate(sizes))
        yield name, user_table, item_table


def own_candidates(split: SplitInteractions, dim: int, only: str, losses: Sequence[str]) -> Iterator[Candidate]:
    for method, loss in itertools.product(("mf", "lightgcn"), losses):
        if not method.startswith(only):
            continue
        for table, users, items in tables(split, dim):
            options = {"layers": LAYERS} if method == "lightgcn" else {}
            model = build_model(method, {"users": users, "items": items}, split, **options)
            reset_embeddings(model, 0.1, seed=0)
            yield Candidate(method, table, loss, model, functools.partial(model.loss, objective=OBJECTIVES[loss]))
            if method == "mf" and not users.is_quantized:
                twin = copy.deepcopy(model)
                yield Candidate(ALL_ROWS, table, loss, twin, functools.partial(twin.loss, objective=OBJECTIVES[loss]))


def torch_geometric_candidates(split: SplitInteractions, dim: int, device: torch.device) -> Iterator[Candidate]:
    if importlib.util.find_spec("torch_geometric") is None:
        print("torch_geometric is not installed: its LightGCN is left out", flush=True)
        return
    from torch_geometric.nn import LightGCN

    users, items = torch.from_numpy(split.train.users).long(), torch.from_numpy(split.train.items).long()
    first_item, count = split.num_users, split.num_users + split.num_items
    pairs = torch.stack((users, items + first_item))
    edges = torch.cat((pairs, pairs.flip(0)), dim=1).to(device)
    graphs = (("edge list", edges, {}), ("normalised CSR", normalised_csr(split, device), {"normalize": False}))
    for name, graph, arguments in graphs:
        model = LightGCN(count, dim, LAYERS, **arguments)
        initial = MatrixFactorization(full_table(split.num_users, dim), full_table(split.num_items, dim))
        reset_embeddings(initial, 0.1, seed=0)
        with torch.no_grad():
            model.embedding.weight.copy_(torch.cat(initial.representations()))
        loss = torch_geometric_loss(model, graph, first_item)
        yield Candidate(f"torch_geometric, {name}", "full", BPR, model, loss)


def normalised_csr(split: SplitInteractions, device: torch.device) -> Tensor:
    """The joint adjacency with the weights that LightGCN gives it, from the same numbers as the model's here."""
    adjacency = BipartiteAdjacency(split.train)
    offsets = torch.cat((adjacency.user_offsets, adjacency.item_offsets[1:] + adjacency.user_offsets[-1]))
    columns = torch.cat((adjacency.user_columns + split.num_users, adjacency.item_columns))
    values = torch.cat((adjacency.user_values, adjacency.item_values))
    count = split.num_users + split.num_items
    return torch.sparse_csr_tensor(offsets, columns, values, (count, count)).to(device)


def torch_geometric_loss(model: nn.Module, graph: Tensor, first_item: int) -> Loss:
    def loss(batch: Batch) -> Tensor:
        users, positives, negatives = batch
        out = model.get_embedding(graph)
        chosen = functional.embedding(users, out)
        positive, negative = (
            (chosen * functional.embedding(items + first_item, out)).sum(-1) for items in (positives, negatives)
        )
        nodes = torch.cat((users, positives + first_item, negatives + first_item))
        # Its penalty is the whole squared norm where the authors' code takes half.
        return model.recommendation_loss(positive, negative, nodes, lambda_reg=WEIGHT_DECAY / 2)

    return loss


class PlainStep:
    """Gradients and fused Adam of a peer's model, as a `Step`."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self.loss = loss
        self.optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def begin(self) -> None:
        pass

    def __call__(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        self.optimizer.step()

    def end(self) -> None:
        pass


def step_of(candidate: Candidate, cuda_graph: bool) -> Step | PlainStep:
    """A training step of a candidate: of the models here as `train` makes it."""
    module = candidate.module
    if not isinstance(module, Model):
        return PlainStep(module, candidate.loss)
    objective = OBJECTIVES[candidate.loss_name]
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True, capturable=cuda_graph)
    if candidate.name == ALL_ROWS:
        return TrainingStep(module, optimizer, objective)
    return training_step(module, optimizer, objective, cuda_graph)


def seconds_of(step: Step | PlainStep, batches: list[Batch], clock: Callable[[], float]) -> float:
    device = batches[0].device
    synchronise = functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    step.begin()
    for batch in batches[:2]:  # which fill the caches, as the steps of an epoch before these do
        step(batch)
    synchronise()
    started = clock()
    for batch in batches:
        step(batch)
    synchronise()
    seconds = clock() - started
    step.end()
    return seconds


def implicit_epochs(
    split: SplitInteractions, dim: int, threads: int, clock: Callable[[], float]
) -> Callable[[], float] | None:
    """What trains implicit's BPR for an epoch, and gives its seconds; None where it is not installed."""
    if importlib.util.find_spec("implicit") is None:
        print("implicit is not installed: its BPR is left out", flush=True)
        return None
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    train = split.train
    ones = np.ones(len(train), np.float32)
    pairs = scipy.sparse.csr_array((ones, (train.users, train.items)), (split.num_users, split.num_items))
    matrix = scipy.sparse.csr_matrix(pairs)
    model = BayesianPersonalizedRanking(factors=dim, iterations=1, num_threads=threads, random_state=0)

    def epoch() -> float:
        started = clock()
        model.fit(matrix, show_progress=False)
        return clock() - started

    return epoch


def sampling_seconds(
    split: SplitInteractions, batch_size: int, device: torch.device, repeats: int, clock: Callable[[], float]
) -> list[float]:
    sampler = TripleSampler(split.train, batch_size, device=device)
    seconds = []
    for epoch in range(repeats + 1):
        started = clock()
        for batch in sampler.epoch(epoch):
            last = batch
        last[2].cpu()
        seconds.append(clock() - started)
    return seconds[1:]


def check_agreement(candidates: list[Candidate], batch: Batch) -> None:
    """Over full tables that start alike, the two implementations of LightGCN must start with the same loss."""
    losses = {
        candidate.name: float(candidate.loss(batch).detach())
        for candidate in candidates
        if (candidate.table, candidate.loss_name) == ("full", BPR) and not candidate.name.startswith("mf")
    }
    if losses and max(losses.values()) - min(losses.values()) > 1e-4:
        raise SystemExit(f"the candidates disagree on the first loss: {losses}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a set with a split, as baco_gpu.load_split reads it")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="training steps a repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cuda-graph", action="store_true", help="run the steps of the models here as CUDA graphs")
    parser.add_argument("--only", default="", help="mf or lightgcn: of the models here this one alone, and implicit's")
    parser.add_argument("--losses", default=",".join(LOSSES), help="of the models here")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: of one processor, busy or not")
    parser.add_argument("--threads", type=int, help="of torch on the CPU; all by default")
    parser.add_argument("--output", type=Path, help="write the rows to this CSV file, too")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = measure(load_split(arguments.data), arguments)
    if arguments.output:
        write_rows(arguments.output, rows)


def measure(split: SplitInteractions, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each candidate; the arguments are those of `main`."""
    device, clock = torch.device(arguments.device), CLOCKS[arguments.clock]
    sampler = TripleSampler(split.train, arguments.batch_size, device=device)
    # Whole batches alone, so that every step is the same work.
    batches = [batch for batch in sampler.epoch(1) if len(batch[0]) == arguments.batch_size][: arguments.steps]
    if not batches:
        raise SystemExit(f"{arguments.data} has fewer than {arguments.batch_size} training interactions")
    candidates = [
        *own_candidates(split, arguments.dim, arguments.only, arguments.losses.split(",")),
        *(torch_geometric_candidates(split, arguments.dim, device) if not arguments.only else ()),
    ]
    for candidate in candidates:
        candidate.module.to(device)
    check_agreement(candidates, batches[0])
    steps = [step_of(each, arguments.cuda_graph) for each in candidates]
    seconds: list[list[float]] = [[] for _ in candidates]
    peer = implicit_epochs(split, arguments.dim, torch.get_num_threads(), clock)
    peer_seconds: list[float] = []
    for repeat in range(arguments.repeats + 1):
        for number, step in enumerate(steps):
            taken = seconds_of(step, batches, clock)
            if repeat:  # the first warms up
                seconds[number].append(taken)
        if peer is not None:
            taken = peer()
            peer_seconds += [taken] if repeat else []

    names = [
        (each.name, each.table, each.loss_name, sum(p.numel() for p in each.module.parameters())) for each in candidates
    ]
    runs = [(*name, taken, len(batches) * arguments.batch_size) for name, taken in zip(names, seconds, strict=True)]
    if peer_seconds:
        count = (split.num_users + split.num_items) * (arguments.dim + 1)
        runs.append(("implicit's BPR", "full", BPR, count, peer_seconds, len(split.train)))
    sampled = sampling_seconds(split, arguments.batch_size, device, arguments.repeats, clock)
    runs.append(("sampling alone", "", "", 0, sampled, sampler.num_samples))
    rows = []
    for name, table, loss, parameters, taken, samples in runs:
        rates = sorted(samples / each for each in taken)
        p20, p80 = rates[int(0.2 * (len(rates) - 1))], rates[-1 - int(0.2 * (len(rates) - 1))]
        median = statistics.median(rates)
        print(f"{name:32} {table:24} {loss:8} {median:12,.0f} triples/s  ({p20:,.0f} to {p80:,.0f})", flush=True)
        rows.append(
            {
                "set": arguments.data.stem,
                "candidate": name,
                "table": table,
                "loss": loss,
                "parameters": parameters,
                "triples_per_second": round(median),
                "p20": round(p20),
                "p80": round(p80),
                "repeats": arguments.repeats,
                "steps": len(batches),
                "batch_size": arguments.batch_size,
                "dim": arguments.dim,
                "layers": LAYERS if name.startswith(("lightgcn", "torch_geometric")) else 0,
                "cuda_graph": arguments.cuda_graph,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
                "threads": torch.get_num_threads(),
                "clock": arguments.clock,
                "torch": torch.__version__,
                "torch_geometric": version_of("torch_geometric"),
                "implicit": version_of("implicit"),
                **describe_machine(),
            }
        )
    return rows


def version_of(package: str) -> str:
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else ""


if __name__ == "__main__":
    main()
