"""Whatever happens to a file, its loader reads it or refuses it in one line, and takes no memory that it needs not."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from baco_gpu import (
    BalancedCoclustering,
    BipartiteGraph,
    CodebookEmbedding,
    compress_model,
    experiment,
    export_codebook,
)
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import random_split
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.data.writing import write_interactions
from baco_gpu.experiment.trial_store import TrialStore
from baco_gpu.experiment.trials import plan
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.training import Checkpoint, TrainingSettings, train
from planted_training import make, planted_split
from tiers import full

pytestmark = pytest.mark.heavy("loads files in processes of their own")

SEED = 20261130
LOADERS = Path(__file__).parents[1] / "damaged_loaders.py"
# Read by a library that damage may end together with its process, before anything of it can be looked at.
MAY_END_ITS_PROCESS = ("feather", "arrow", "parquet")


def damaged(content: bytes, dice: random.Random) -> bytes:
    """The content with flipped bits, an end cut off, two parts swapped, a part gone or of zeros, or one doubled."""
    kind = dice.choice(("flip", "flip", "flips", "cut", "swap", "lose", "zeros", "double"))
    if kind in ("flip", "flips"):
        changed = bytearray(content)
        for _ in range(1 if kind == "flip" else dice.randint(2, 40)):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        return bytes(changed)
    if kind == "cut":
        return content[: dice.randrange(len(content))]
    places = sorted(dice.randrange(len(content) + 1) for _ in range(4))
    begin, first, between, second, end = (
        content[start:stop] for start, stop in zip([0, *places], [*places, len(content)], strict=True)
    )
    if kind == "swap":
        return begin + second + between + first + end
    return {
        "lose": begin + between + second + end,
        "zeros": begin + bytes(len(first)) + between + second + end,
        "double": begin + first + first + between + second + end,
    }[kind]


def interactions() -> Interactions:
    dice = np.random.default_rng(SEED)
    users, items = dice.integers(0, 40, 300), dice.integers(0, 30, 300)
    names = Vocabulary([f"user é {number}" for number in range(40)]), Vocabulary(range(100, 130))
    return Interactions(users, items, 40, 30, np.ones(300), *names, timestamps=np.arange(300))


def write_tables(folder: Path) -> None:
    clicks = interactions()
    for kind in ("csv", "tsv", "inter", "parquet", "feather"):
        write_interactions(folder / f"whole.{kind}", clicks)
    write_interactions(folder / "whole.npz", random_split(clicks, (0.8, 0.1, 0.1), 0))
    write_interactions(folder / "whole.txt", clicks)
    table = pyarrow.parquet.read_table(folder / "whole.parquet")
    (folder / "whole.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    (folder / "whole.csv.gz").write_bytes(gzip.compress((folder / "whole.csv").read_bytes(), mtime=0))
    rows = zip(clicks.users, clicks.items, clicks.timestamps, strict=True)
    (folder / "whole.dat").write_text("".join(f"{user}::{item}::4::{time}\n" for user, item, time in rows))
    table = pyarrow.feather.read_table(folder / "whole.feather")
    table = table.set_column(0, "user", table.column("user").dictionary_encode())
    with pa.ipc.new_file(folder / "whole.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=100)


def write_results(folder: Path) -> None:
    graph = BipartiteGraph.from_interactions(interactions())
    BalancedCoclustering(budget=0.5, secondary="both").fit(graph).result_.save(folder / "whole.result")
    torch.manual_seed(0)
    codes = np.array([0, 3, 3, 7, 0, 9, 7, 7])
    mixed = MixedCodebookEmbedding(codes, 5, np.column_stack((codes, codes[::-1])), own_share=0.25)
    export_codebook({"users": mixed, "items": CodebookEmbedding(codes, 5, bits=4)}, folder / "whole.export")
    split = planted_split()
    settings = TrainingSettings(epochs=2, batch_size=64, evaluate_every=1)
    train(make(split=split, compressed=True), split, settings, [Checkpoint(folder / "whole.checkpoint")])
    state = {
        "user_embedding.weight": torch.randn(40, 8),
        "item_embedding.weight": torch.randn(30, 8),
        "top.weight": torch.randn(1, 8),
    }
    torch.save(state, folder / "whole.pt")
    safetensors.torch.save_file(state, folder / "whole.safetensors")
    compress_model(state, 0.6, methods=["quantized"]).save(folder / "whole.compressed")
    small = replace(settings, epochs=1)
    split = random_split(interactions(), (0.8, 0.1, 0.1), 0)
    compression = experiment.compress(split, "product", BalancedCoclustering(budget=0.5, embedding_dim=4))
    experiment.save_model(experiment.run(split, compression, "lightgcn", small), folder / "whole.model")


def write_texts(folder: Path) -> None:
    settings = {"clustering": BalancedCoclustering(budget=0.5), "training": TrainingSettings()}
    grid = {"methods": ["full"], "budgets": [0.5], "models": ["mf"], "seeds": [0]}
    (trial,) = plan("clicks", planted_split(), **grid, **settings)
    counts = ("codebook_rows", "parameters", "parameters_full", "bytes", "bytes_full", "epochs", "best_epoch")
    figures = {**dict.fromkeys(counts, 7), "recall@20": 0.25, "seconds_training": 0.5}
    content = {"machine": {}, "versions": {}, "status": "done", "figures": figures, "curve": [], "seconds": 1.5}
    TrialStore(folder).write(trial, content)
    (folder / "whole.record").write_bytes(TrialStore(folder).path(trial).read_bytes())
    (folder / "trial.pickle").write_bytes(pickle.dumps(trial))
    (folder / "whole.settings").write_text("budget: 0.5\nseed: &n 3\ndim: *n\nsecondary: none\nquiet: true\ngamma:\n")


def come_of(files: list[tuple[str, str]], folder: Path) -> list[str]:
    """What is wrong with how each file is loaded, in as many processes as it takes."""
    (folder / "files.json").write_text(json.dumps(files))
    faults: list[str] = []
    while len(faults) < len(files):
        command = [sys.executable, str(LOADERS), str(folder / "files.json"), str(len(faults))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        lines = done.stdout.splitlines()
        faults += map(json.loads, lines[1::2])
        if len(faults) < len(files):
            assert len(lines) % 2, f"no file was begun: {done.stderr[-2000:]}"
            faults.append("" if files[len(faults)][0] in MAY_END_ITS_PROCESS else f"exit code {done.returncode}")
    return faults


@pytest.mark.parametrize("write", [write_tables, write_results, write_texts])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    whole = sorted(tmp_path.glob("whole.*"))
    files = [(path.name.removeprefix("whole."), str(path)) for path in whole]
    dice = random.Random(SEED)
    share = {write_tables: 0.6, write_results: 0.25, write_texts: 0.15}[write]
    for number in range(round(share * full(2000, 60))):
        path = whole[number % len(whole)]
        kind = path.name.removeprefix("whole.")
        target = tmp_path / f"{number}.{kind}"
        target.write_bytes(damaged(path.read_bytes(), dice))
        files.append((kind, str(target)))
    faults = come_of(files, tmp_path)
    assert [f"{name}: {fault}" for (_, name), fault in zip(files, faults, strict=True) if fault] == []
