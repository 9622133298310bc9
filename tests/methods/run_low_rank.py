"""All that is done with tables and methods, with those of a file that is dropped into the folder of methods.

    python run_low_rank.py DATA

DATA is a table of interactions; what is written lies beside it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from onnx.reference import ReferenceEvaluator

from baco_gpu import compress_module, load_recommender, rebuild_module
from baco_gpu.cli.main import main
from baco_gpu.serving import load_codebooks
from baco_gpu.tables import ServedEmbedding, export_codebook, export_onnx


def baco(*arguments: str) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), errors.getvalue()


data = Path(sys.argv[1])
model_file, tables_file, checkpoint = (data.with_name(f"{name}.safetensors") for name in ("model", "tables", "run"))

known = {method["name"]: method for method in json.loads(baco("methods", "--json")[1])["methods"]}
assert known["low-rank"]["stored"] == "two matrices"
assert "two matrices" in baco("methods")[1]

train = ("train", data, "--model", "mf", "--dim", 16, "--method", "low-rank", "--budget", 0.25, "--json")
files = ("--out", model_file, "--export", tables_file, "--checkpoint", checkpoint)
code, out, error = baco(*train, *files, "--epochs", 2)
assert code == 0, error
summary = json.loads(out)
assert 0.2 < summary["bytes"] / summary["bytes_full"] <= 0.25
code, out, error = baco(*train, *files, "--epochs", 3, "--resume")
assert code == 0, error
assert json.loads(out)["epochs"] == 3

tables = load_codebooks(tables_file)
assert [list(table.row_arrays()) for table in tables.values()] == [["left", "right"]] * 2
recommender = load_recommender(model_file)
for side, table in (("users", recommender.users), ("items", recommender.items)):
    ids = np.arange(table.num_embeddings)
    np.testing.assert_allclose(tables[side].lookup(ids), table.lookup(ids), rtol=1e-5, atol=1e-6)
assert len(recommender.recommend([recommender.user_ids[0]], k=5)) == 5

kind = sys.modules["baco_gpu.methods.low_rank"].LowRankEmbedding
model = torch.nn.ModuleDict({"item": torch.nn.Embedding(50, 8), "bag": torch.nn.EmbeddingBag(50, 8, mode="sum")})
small = {"item": kind(50, 8, rank=8), "bag": kind(50, 8, rank=3)}
wanted, optimizer = model["item"].weight.detach().clone(), torch.optim.Adam(model.parameters())
assert compress_module(model, small, optimizer).total("bytes_after") == 4 * (50 + 8) * (8 + 3)
assert model["item"] is small["item"]
torch.testing.assert_close(model["item"].weight, wanted, rtol=1e-4, atol=1e-5)
before = model["item"].weight.detach().clone()
(model["item"](torch.arange(9)).sum() + model["bag"](torch.arange(9)[:, None]).sum()).backward()
optimizer.step()
assert not torch.equal(model["item"].weight, before)

fresh = torch.nn.ModuleDict({"item": torch.nn.Embedding(50, 8), "bag": torch.nn.EmbeddingBag(50, 8, mode="sum")})
rebuild_module(fresh, model.state_dict())
assert type(fresh["item"]) is kind
assert type(fresh["bag"].table) is kind
assert torch.equal(fresh["item"].weight, model["item"].weight)
assert torch.equal(fresh["bag"](torch.arange(6)[:, None]), model["bag"](torch.arange(6)[:, None]))

ids = np.array([0, 49, 7, 7])
served = load_codebooks(export_codebook(fresh["item"], data.with_name("one.safetensors")))["table"].lookup(ids)
torch.testing.assert_close(torch.from_numpy(served), fresh["item"](torch.from_numpy(ids)).detach())
torch.testing.assert_close(ServedEmbedding.of(fresh["item"])(torch.from_numpy(ids)), torch.from_numpy(served))
graph = ReferenceEvaluator(str(export_onnx(fresh["item"], data.with_name("one.onnx"))))
np.testing.assert_allclose(graph.run(None, {"ids": ids})[0], served, rtol=1e-5, atol=1e-6)

# What could not be exported, or loaded again, is refused before it is trained.
kind.encoding = "lower rank"
code, out, error = baco(*train, "--epochs", 2, "--export", tables_file)
assert code == 2, error
assert "encoding must be one that is known here" in error, error
assert "training" not in out + error
kind.known_by = {"left": 3}
code, out, error = baco(*train, "--epochs", 2, "--out", model_file)
assert code == 2, error
assert "got LowRankEmbedding: give the class a known_by" in error, error
