"""Fingerprints of what the package computes, to prove that a change of its code changes nothing else.

    python -m benchmarks.fingerprints --out benchmarks/results/fingerprints.json
    python -m benchmarks.fingerprints --check benchmarks/results/fingerprints.json --only affinity movielens-100k

A fact has a name, which says what is done. `--check` computes the facts again, lists those that differ and ends with 1
if any does; `--only` takes words of names. What lacks a package or a set is left out, and said to be.

"everywhere" holds labels and what tables cost, the same on every machine (but for methods that group by sums of floats:
spectral-co, spectral-bi, itcc). "on_this_machine" holds trained weights and exported files, which depend on processor
and versions: elsewhere they are not compared, and what is to be compared has to be recorded there first.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

import baco_gpu
from baco_gpu import experiment, serving
from baco_gpu.cli.main import main as baco
from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.machine import describe_versions
from baco_gpu.tables.facts import without_facts
from baco_gpu.training import TrainingSettings
from benchmarks.machine import describe_machine

Facts = dict[str, Any]
Job = tuple[str, Callable[[], Facts]]  # what the names of its facts begin with, and what computes them
MOVIELENS = "movielens-100k"
SETS = (MOVIELENS, "beauty", "gowalla")
EVERYWHERE = ("labels", "accounting")
CLUSTERINGS = ({}, {"weights": "paper"}, {"secondary": "both"}, {"levels": 1}, {"codebooks": "shared"})
MAIN = ("full", "product", "quantized", "baco-multilevel", "residual", "affinity", "product:integers")
BY_BYTES = ("quantized", "quantized:integers", "low-precision")  # of parameters, their bits would have to be chosen
LONG = {"epochs": 40, "patience": 1, "batch_size": 512, "learning_rate": 0.02}  # through every stage of training
SAME = ("cpu", "instructions", "numba", "numpy", "scikit-learn", "scipy", "torch")  # or sums of floats are others
TRAINED = ("parameters", "bytes", "epochs", "best_epoch", "recall@20")
COUNTED = ("codebook_rows", "parameters", "parameters_full", "bytes", "bytes_full", "compression")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the facts to this file")
    parser.add_argument("--check", type=Path, metavar="FILE", help="list the facts that are others in this file")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="facts with such a word in their names")
    parser.add_argument("--data", metavar="FOLDER", default=os.environ.get("BACO_DATA", "."), help="of the .npz sets")
    arguments = parser.parse_args()
    about: Facts = {**describe_machine(), **describe_versions(), "numba": numba.__version__}
    about["instructions"] = torch.backends.cpu.get_cpu_capability()
    about["methods"] = [method["name"] for method in json.loads(command("methods", "--json")[0])["methods"]]
    known = json.loads(arguments.check.read_text()) if arguments.check else {"about": about}
    # A method that is new is no difference, and one that is called otherwise now still has to heed its old name.
    methods, only = known["about"]["methods"], set(arguments.only)
    jobs = dict([*labels(arguments.data), *accounting(methods), *training(methods), *modules()])
    if unknown := only.difference(*(job.split("/") for job in jobs)):
        parser.error(f"--only must be words of names such as {next(iter(jobs))}, got {', '.join(sorted(unknown))}")
    moved = [f"{name} {known['about'][name]}" for name in SAME if known["about"][name] != about[name]]
    if moved:
        print(f"left out: training and modules, recorded with {', '.join(moved)}", file=sys.stderr)

    def chosen(job: str) -> bool:
        return (job.startswith(EVERYWHERE) or not moved) and (not only or not only.isdisjoint(job.split("/")))

    found, left_out = compute({job: function for job, function in jobs.items() if chosen(job)})
    if arguments.out:
        here = {name: value for name, value in found.items() if not name.startswith(EVERYWHERE)}
        sections = {"everywhere": {name: found[name] for name in found.keys() - here}, "on_this_machine": here}
        arguments.out.write_text(json.dumps({"about": about, **sections}, indent=1, sort_keys=True) + "\n")
    if not arguments.check:
        return 0
    expected = known["everywhere"] | known["on_this_machine"]
    names = {name for name in expected if chosen(job := name.rpartition("/")[0]) and job not in left_out} | found.keys()
    different = sorted(name for name in names if expected.get(name) != found.get(name))
    for name in different:
        print(f"{name}: was {expected.get(name)}, is {found.get(name)}")
    print(f"{len(different)} of {len(names)} facts differ", file=sys.stderr)
    return 1 if different else 0


def compute(jobs: Mapping[str, Callable[[], Facts]]) -> tuple[Facts, set[str]]:
    """The facts, found on one thread of PyTorch and BLAS, and the jobs that lack a package or a set."""
    found, left_out = Facts(), set[str]()
    torch.set_num_threads(1)
    for job, function in jobs.items():
        print(job, file=sys.stderr, flush=True)
        torch.manual_seed(0)
        try:
            with threadpool_limits(1):
                facts = function()
        except InputError as error:
            facts = {"refused": str(error)}
        except (MissingExtraError, FileNotFoundError) as error:
            print(f"left out: {job} ({error})", file=sys.stderr)
            left_out.add(job)
            continue
        found |= {f"{job}/{name}": value for name, value in facts.items()}
    return found, left_out


def labels(folder: str) -> Iterator[Job]:
    """Every solver on every set."""

    def cluster(data: str, options: Facts) -> Facts:
        source = data if data == MOVIELENS else Path(folder, f"{data}.npz").resolve(strict=True)
        result = baco_gpu.BalancedCoclustering(**options).fit(baco_gpu.load_interactions(source)).result_
        facts = {name: getattr(result, name) for name in ("labels_sha256", "objective", "gamma", "codebook_rows")}
        return facts | {"secondary": digest({"users": result.users.secondary, "items": result.items.secondary})}

    for data, solver, given, seed in itertools.product(SETS, ("multilevel", "paper"), CLUSTERINGS, range(3)):
        options = {"solver": solver, "random_state": seed, **given}
        yield f"labels/{data}/{solver}/{listed(given)}/seed {seed}", functools.partial(cluster, data, options)


def accounting(methods: list[str]) -> Iterator[Job]:
    """What every method costs, as the command reports it after a short epoch."""
    brief = ("--model", "mf", "--epochs", "1", "--negatives", "8", "--batch-size", "8192", "--json")

    def count(measure: str, budget: str, method: str) -> Facts:
        experiment.check_names(method=method, model="mf")
        settings = ("--method", method, "--budget", budget, "--budget-measure", measure)
        out, error = command("train", MOVIELENS, *settings, *brief)
        return {"refused": error} if error else {name: json.loads(out)[name] for name in COUNTED}

    for case in itertools.product(("parameters", "bytes"), ("0.1", "0.25"), methods):
        yield "/".join(("accounting", MOVIELENS, *case)), functools.partial(count, *case)


def training(methods: list[str]) -> Iterator[Job]:
    """Every method on a small set, and some for two epochs on a real one."""
    planted = random_split(planted_coclusters(400, 300, 6000, 12)[0])
    split = functools.cache(lambda data: planted if data == "planted" else baco_gpu.load_split(data))

    def train(data: str, method: str, options: Facts, model: str, loss: str) -> Facts:
        measure = "bytes" if method in BY_BYTES else "parameters"
        asked = {"budget": 0.25, "budget_measure": measure, "random_state": 0, **options}
        compression = experiment.compress(split(data), method, baco_gpu.BalancedCoclustering(**asked))
        settings = TrainingSettings(loss=loss, **(LONG if data == "planted" else {"epochs": 2}))
        outcome = experiment.run(split(data), compression, model, settings)
        facts = {name: outcome.summary()[name] for name in TRAINED} | {"loss": outcome.training.history[-1].loss}
        tables = {"users": compression.user_table, "items": compression.item_table}
        return facts | digests(outcome.model, tables, functools.partial(experiment.export_tables, outcome))

    runs = [("planted", method, Facts()) for method in (*methods, "codebook:both")]
    runs += [("planted", method, {"budget": 0.05}) for method in MAIN[1:]]  # so little that quantized shares rows, too
    runs += [("planted", method, {"codebook_dtype": "int8"}) for method in MAIN[3:]]
    runs += [("planted", "codebook", {"codebooks": "shared"})] + [(MOVIELENS, method, {}) for method in MAIN]
    for (data, method, options), model, loss in itertools.product(runs, ("lightgcn", "mf"), ("softmax", "bpr")):
        job = functools.partial(train, data, method, options, model, loss)
        yield f"training/{data}/{model}/{loss}/{method}/{listed(options)}", job


def modules() -> Iterator[Job]:
    """Modules made by hand: options that methods do not use, and tables that were trained before."""
    codes, second = np.arange(200) % 40, np.arange(200) * 7 % 40
    book, two = baco_gpu.CodebookEmbedding, Facts(secondary=second, padding_idx=3)
    halves, own = (torch.float16, torch.bfloat16), np.arange(5, 90)

    def compressed(*pair: nn.Module) -> nn.ModuleList:
        model, ids = nn.ModuleList(pair), torch.arange(200)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for codes_of in ({}, {"0": codes, "1": second}):
            if codes_of:  # the optimizer has moments by then, which are carried over
                baco_gpu.compress_module(model, codes_of, optimizer)
            (model[0](ids) * model[1](ids)).sigmoid().sum().backward()
            optimizer.step()
        return model

    def facts(make: Callable[[], Iterable[nn.Module]]) -> Facts:
        model = nn.ModuleList(make())
        tables = {f"table {place}": table for place, table in enumerate(model)}
        return digests(model, tables, functools.partial(baco_gpu.export_codebook, tables))

    kinds: dict[str, Callable[[], Iterable[nn.Module]]] = {
        "codebook": lambda: [book(codes, 16), book(np.arange(200), 16)],
        "codebook, 16 bits": lambda: [book(codes, 16, **two, dtype=dtype) for dtype in halves],
        "codebook, 3 bits": lambda: [book(codes, 16, **two, bits=3)],
        "bag": lambda: [baco_gpu.CodebookEmbeddingBag(codes, 16, **two, mode="sum")],
        "mixed": lambda: [baco_gpu.MixedCodebookEmbedding(codes, 16, np.stack((second, codes), 1), own_share=0.4)],
        "residual": lambda: [baco_gpu.ResidualCodebookEmbedding(codes, 16, **two, residual_dim=4, residual_ids=own)],
        "low-precision": lambda: [baco_gpu.QuantizedEmbedding(200, 16, 3, bits=bits) for bits in (16, 8, 5)],
        "encode_pretrained": lambda: experiment.encode_pretrained(torch.randn(200, 16), torch.randn(150, 16), 0.2),
        "compress_module": lambda: compressed(nn.Embedding(200, 16), nn.Embedding(200, 16, padding_idx=3)),
    }
    yield from ((f"modules/{name}", functools.partial(facts, make)) for name, make in kinds.items())


def digests(model: nn.Module, tables: Mapping[str, Any], export: Callable[[Path], Any]) -> Facts:
    """Of the state dict as it is, of its arrays under any names in any order, of all embeddings, and of a file."""
    state = without_facts(model.state_dict())  # as it was recorded
    alone = sorted(digest({"": value}) for value in state.values())
    with torch.no_grad():  # of a column of ids, which is bags of one to a bag
        vectors = {side: table(torch.arange(table.num_embeddings)[:, None]) for side, table in tables.items()}
    facts = {"state_dict": digest(state), "arrays": digest({"": alone}), "embeddings": digest(vectors)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.safetensors")
        try:
            export(path)
        except InputError:
            return {**facts, "file": "refused"}
        content, served = path.read_bytes(), serving.load_codebooks(path)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])  # the metadata stand in another order in every process
    facts["file"] = digest({json.dumps(header, sort_keys=True): content[end:]})
    parts = {f"{name}.{part}": value for name, table in served.items() for part, value in stored_in(table)}
    looked_up = {name: table.lookup(np.arange(table.num_embeddings)) for name, table in served.items()}
    return {**facts, "file_arrays": digest(parts), "file_embeddings": digest(looked_up)}


def stored_in(table: serving.ServedTable) -> list[tuple[str, Any]]:
    """All that a table of the decoders without a name stores, and what it does not."""
    names = ("codebook", "scales", "centroids", "residual", "basis", "codes", "secondary", "residual_rows", "encoding")
    return sorted({**dict.fromkeys(names), **table.arrays(), **table.facts(), "decoder": table.decoder}.items())


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of arrays with their dtypes and shapes, or of what else is printed alike, in this order, with names."""
    total = hashlib.sha256()
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            value = (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()
        total.update(f"{name} {getattr(value, 'dtype', '')} {getattr(value, 'shape', '')} ".encode())
        total.update(value.tobytes() if isinstance(value, np.ndarray) else str(value).encode())
    return total.hexdigest()


def listed(options: Facts) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "default"


def command(*arguments: str) -> tuple[str, str]:
    """What `baco` prints, and the error if it ends with one."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = baco(list(arguments))
    return out.getvalue(), errors.getvalue().strip().splitlines()[-1] if code else ""


if __name__ == "__main__":
    sys.exit(main())
