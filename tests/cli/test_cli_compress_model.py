"""baco compress-model and expand-model: files in, files out, and what they say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from baco_gpu import load_compressed
from baco_gpu.data.synthetic import planted_coclusters

pytestmark = pytest.mark.heavy("runs commands")


@pytest.fixture
def model(tmp_path):
    """The file of a model of two tables and another matrix."""
    torch.manual_seed(0)
    clicks, users, items = planted_coclusters(300, 200, 3000, 8, seed=0)
    centers = torch.randn(8, 16)
    state = {
        f"{name}_embedding.weight": centers[torch.as_tensor(groups)] + 0.2 * torch.randn(len(groups), 16)
        for name, groups in (("user", users), ("item", items))
    }
    save_file({**state, "top.weight": torch.randn(4, 16)}, tmp_path / "model.safetensors")
    pd.DataFrame({"user": clicks.users, "item": clicks.items}).to_csv(tmp_path / "clicks.csv", index=False)
    return tmp_path / "model.safetensors"


def test_a_file_is_made_small_and_plain_again(baco, model, tmp_path):
    small, plain = tmp_path / "small.safetensors", tmp_path / "plain.safetensors"
    code, stdout, _ = baco(
        "compress-model", model, "--budget", "15%", "--data", tmp_path / "clicks.csv", "--out", small
    )
    assert code == 0
    for part in ("user_embedding", "item_embedding", "row error", "as seen", "nearest 20 kept", "are kept", str(small)):
        assert part in stdout
    code, stdout, _ = baco("compress-model", model, "--budget", "0.15", "--method", "product", "--json")
    report = json.loads(stdout)
    assert report["bytes_after"] <= report["budget"] == int(0.15 * report["bytes_before"])
    assert {table["method"] for table in report["tables"]} == {"product"}
    assert report["written"] is None
    code, stdout, _ = baco("expand-model", small, plain, "--json")
    assert json.loads(stdout)["tables"] == ["item_embedding", "user_embedding"]
    wanted = load_compressed(small).expanded()
    found = load_file(plain)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in found)
    assert np.array_equal(found["top.weight"], load_file(model)["top.weight"])


def test_mistakes_end_in_a_line_and_write_nothing(baco, model, tmp_path):
    small = tmp_path / "small.safetensors"
    for arguments, message in (
        (("--budget", "much"), "is no number or share such as 13%"),
        (("--tables", "users"), "tables must fit matrices of floats"),
        (("--method", "prodct"), "did you mean 'product'?"),
        (("--method", "codebook"), "data must be given for method 'baco-multilevel'"),
        (("--budget", "0.01"), "budget must be at least"),
    ):
        code, _, stderr = baco("compress-model", model, "--out", small, *arguments)
        assert code == 2
        assert message in " ".join(stderr.split())
    assert not small.exists()
    code, _, stderr = baco("compress-model", model, "--out", model)
    assert (code, "expected another name than that of MODEL, got the same" in stderr) == (2, True)
    code, _, stderr = baco("expand-model", model, small)
    assert (code, "expected a compressed model" in stderr) == (2, True)
