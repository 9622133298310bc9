"""Models on the command line: options of their own, and one that learns from sequences over a table of items alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.serving import load_codebooks

pytestmark = pytest.mark.heavy("runs commands")

QUICK = ("--epochs", 2, "--dim", 8, "--json")
SEQUENCES = ("--model", "sasrec", "--split", "leave-last-out", "--length", 6, "--blocks", 1)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    interactions, _, _ = planted_coclusters(120, 80, 1500, 6, seed=3)
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    times = np.random.default_rng(0).permutation(len(interactions))
    frame = pd.DataFrame({"user": interactions.users, "item": interactions.items, "timestamp": times})
    frame.to_csv(path, index=False)
    return path


def test_help_shows_the_options_of_models(baco):
    code, stdout, _ = baco("train", "--help")
    assert code == 0
    for option in ("--layers", "--length", "--blocks", "--dropout"):
        assert option in stdout
    assert "--layers" not in baco("compress", "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "mf", "--layers", 3), "--layers has no effect on model 'mf': leave it out, or --model lightgcn"),
        (("--layers", -1), "layers must be an integer at least 0, got -1"),
        (
            ("--model", "sasrec"),
            "model 'sasrec' learns from the order of interactions and needs their timestamps, got none: ",
        ),
        (("--model", "sasrec", "--method", "affinity"), "has one of items alone: it takes full, "),
        (("--model", "sasrec", "--method", "cce"), "has one of items alone: it takes full, "),
        (
            (*SEQUENCES, "--method", "baco-multilevel", "--codebooks", "shared"),
            "codebooks must be 'separate' for a model with one table",
        ),
    ],
)
def test_what_a_model_does_not_take_is_refused_in_one_line(baco, clicks, arguments, message):
    for command in ("train", "compare"):
        if "--codebooks" in arguments and command == "compare":
            continue  # a comparison takes methods by another name, and finds it out in its runs
        given = ["--methods" if word == "--method" and command == "compare" else word for word in arguments]
        if command == "compare" and "--methods" not in given:
            given += ["--methods", "full"]
        code, _, stderr = baco(command, clicks, *given, *QUICK)
        assert (code, len(stderr.splitlines())) == (2, 1)
        assert message in stderr


@pytest.mark.parametrize("method", ["full", "narrow", "random", "codebook", "residual", "product", "compact"])
def test_a_model_of_items_alone_trains_over_every_kind_of_table(baco, clicks, method):
    code, stdout, stderr = baco("train", clicks, *SEQUENCES, "--method", method, *QUICK)
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert summary["parameters_full"] == 80 * 8
    assert (summary["parameters"] == 80 * 8) == (method == "full")
    assert 0 <= summary["recall@20"] <= 1


def test_a_result_has_the_items_and_the_network_and_repeats_from_its_settings(baco, clicks, tmp_path):
    out, export = tmp_path / "model.safetensors", tmp_path / "items.safetensors"
    arguments = (*SEQUENCES, "--method", "codebook", *QUICK)
    first = json.loads(baco("train", clicks, *arguments, "--out", out, "--export", export)[1])
    assert load_codebooks(export).keys() == {"items"}
    with safe_open(out, framework="np") as file:
        assert {name.partition(".")[0] for name in file.keys()} == {"items", "model", "ids", "train", "later"}  # noqa: SIM118 (no mapping)
        assert file.get_tensor("model.positions").shape == (6, 8)
    settings = out.with_suffix(".settings.yml")
    written = yaml.safe_load(settings.read_text(encoding="utf-8"))
    assert (written["length"], written["blocks"], written["dropout"]) == (6, 1, 0.2)
    assert "layers" not in written
    again = json.loads(baco("train", "--config", settings, "--json")[1])
    assert again["recall@20"] == first["recall@20"]


def test_models_are_compared_each_with_its_options(baco, clicks, tmp_path):
    arguments = ("--models", "mf,sasrec", "--methods", "full", "--split", "temporal", "--length", 6, *QUICK)
    code, stdout, stderr = baco("compare", clicks, *arguments, "--out", tmp_path / "runs")
    assert code == 0, stderr
    options = {run["run"]["model"]: run["run"]["options"] for run in json.loads(stdout)["runs"]}
    assert options == {"mf": {}, "sasrec": {"length": 6, "blocks": 2, "dropout": 0.2}}
