"""The command line, as a user meets it: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from baco_gpu.cuda.launch import CudaLauncher
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.arrays import cuda_obstacle
from baco_gpu.serving import load_codebooks
from cuda_host.host import on_kernels
from cuda_host.stand_in import Machine
from tiers import full

pytestmark = pytest.mark.heavy("runs commands")

COMPRESS_KEYS = {
    "num_users",
    "num_items",
    "num_edges",
    "user_clusters",
    "item_clusters",
    "codebook_rows",
    "secondary_users",
    "parameters_full",
    "bytes_full",
    "parameters_compressed",
    "bytes_compressed",
    "gamma",
    "objective",
    "labels_sha256",
    "largest_user_cluster",
    "seconds",
}
TRAIN_KEYS = {
    "method",
    "codebook_rows",
    "parameters",
    "epochs",
    "recall@20",
    "recall_capped@20",
    "ndcg@20",
    "seconds_clustering",
    "seconds_training",
    "seconds_compiling",
}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """A CSV of 3,000 clicks with string ids, in planted co-clusters."""
    interactions, _, _ = planted_coclusters(300, 200, 3000, 10, noise=0.1, seed=3)
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    users, items = (
        np.char.add(prefix, ids.astype(str)) for prefix, ids in (("u", interactions.users), ("i", interactions.items))
    )
    pd.DataFrame({"user": users, "item": items}).to_csv(path, index=False)
    return path


def test_compress_prints_one_json_object_and_writes_the_same_labels(baco, clicks, tmp_path):
    out, labels = tmp_path / "codes.safetensors", tmp_path / "labels.parquet"
    code, stdout, stderr = baco("compress", clicks, "--budget", 0.25, "--out", out, "--labels", labels, "--json")
    summary = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert summary.keys() >= COMPRESS_KEYS
    assert summary["parameters_compressed"] <= 0.25 * summary["parameters_full"]
    result = CoclusteringResult.load(out)
    assert result.labels_sha256 == summary["labels_sha256"]
    frame = pd.read_parquet(labels)
    assert list(frame.columns) == ["side", "id", "cluster", "secondary"]
    user = frame[(frame.side == "user") & (frame.id == "u7")].iloc[0]
    assert user.cluster == result.users.label_of("u7")
    assert frame[frame.side == "item"].secondary.isna().all()


def test_compress_repeats_and_the_seed_matters(baco, clicks):
    digests = [json.loads(baco("compress", clicks, "--json", "--seed", seed)[1])["labels_sha256"] for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_compress_meets_a_number_of_rows(baco, clicks):
    summary = json.loads(baco("compress", clicks, "--budget-rows", 90, "--json")[1])
    assert summary["codebook_rows"] in (89, 90)


def test_more_rows_of_eight_bits_fit_the_same_bytes(baco, clicks):
    arguments = ("compress", clicks, "--budget-measure", "bytes", "--json", "--codebook-dtype")
    wide, small = (json.loads(baco(*arguments, dtype)[1]) for dtype in ("float", "int8"))
    assert small["codebook_rows"] > 2 * wide["codebook_rows"]
    for summary in (wide, small):
        assert summary["bytes_compressed"] <= 0.25 * summary["bytes_full"]


def test_compress_prints_a_summary_for_people(baco, clicks):
    code, stdout, stderr = baco("compress", clicks)
    assert code == 0
    assert "user clusters" in stdout
    assert "clustering" in stderr
    assert baco("compress", clicks, "--quiet")[2] == ""


@pytest.mark.parametrize("method", [None, "baco-multilevel", "full", "random", "louvain"])
def test_train_prints_one_json_object(baco, clicks, tmp_path, method):
    if method == "louvain":
        pytest.importorskip("sknetwork")
    out = tmp_path / "model.safetensors"
    chosen = [] if method is None else ["--method", method]
    arguments = [*chosen, "--epochs", 2, "--dim", 8, "--batch-size", 512, "--out", out, "--json"]
    code, stdout, stderr = baco("train", clicks, "--model", "mf", *arguments)
    summary = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert summary.keys() >= TRAIN_KEYS
    assert summary["method"] == (method or "product")
    assert summary["epochs"] == 2
    if method != "full":
        assert summary["parameters"] <= 0.25 * summary["parameters_full"]
    assert out.stat().st_size > 0


def test_train_makes_product_codes_and_exports_what_it_paid_for(baco, clicks, tmp_path):
    tables, model = tmp_path / "tables.safetensors", tmp_path / "model.safetensors"
    written = ["--export", tables, "--out", model]
    arguments = ["train", clicks, "--method", "product", "--budget", 0.1, "--dim", 32, "--epochs", 2, *written]
    code, stdout, stderr = baco(*arguments, "--json")
    summary = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert 0.09 * summary["parameters_full"] <= summary["parameters"] <= 0.1 * summary["parameters_full"]
    served = load_codebooks(tables)
    assert {name: table.num_embeddings for name, table in served.items()} == {"users": 300, "items": 200}
    centroids = served["users"].centroids
    assert np.array_equal(centroids, served["items"].centroids)
    assert sum(table.nbytes for table in served.values()) - centroids.nbytes == summary["bytes"]
    assert summary["bytes"] < tables.stat().st_size < summary["bytes"] + 2000  # centroids are there once
    assert model.stat().st_size < 0.6 * summary["bytes_full"]
    code, _, stderr = baco("train", "nowhere.csv", "--method", "product", "--codebook-dtype", "int4")
    assert code == 2
    assert "codebook_dtype must be 'float' for method 'product'" in stderr


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (["--budget-rows", 100], "product"),
        (["--budget", 0.08, "--dim", 32], "trellis"),
        (["--budget", 0.25, "--codebook-dtype", "int4"], "affinity"),
        (["--budget", 0.1, "--budget-measure", "bytes", "--dim", 32], "product"),
        (["--budget", 0.1, "--budget-measure", "bytes", "--dim", 32, "--codebook-dtype", "int2"], "quantized"),
    ],
)
def test_train_chooses_a_method_that_suits_the_budget(baco, clicks, options, method):
    code, stdout, stderr = baco("train", clicks, *options, "--epochs", 1, "--model", "mf", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["method"] == method


def test_train_spends_bits_before_rows_and_exports_what_it_paid_for(baco, clicks, tmp_path):
    tables = tmp_path / "tables.safetensors"
    budget = ["--budget", 0.25, "--budget-measure", "bytes", "--dim", 32]
    options = ["--method", "quantized", "--epochs", 1, "--batch-size", 512, "--export", tables]
    arguments = ["train", clicks, *budget, *options]
    code, stdout, stderr = baco(*arguments, "--json")
    summary = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert summary["codebook_rows"] == 500
    assert summary["bytes"] == 500 * (32 * 7 // 8 + 1) <= 0.25 * summary["bytes_full"]
    served = load_codebooks(tables)
    assert {name: table.num_embeddings for name, table in served.items()} == {"users": 300, "items": 200}
    assert sum(table.nbytes for table in served.values()) == summary["bytes"]
    assert "bytes" in baco(*arguments)[1]
    for method in ("full", "legcf"):
        code, _, stderr = baco("train", clicks, "--method", method, "--export", tables)
        assert code == 2
        assert f"--export writes codebooks, and method '{method}' has none to serve" in stderr


def test_train_uses_codes_of_the_same_training_part_only(baco, clicks, tmp_path):
    split = tmp_path / "split.npz"
    rng = np.random.default_rng(0)
    pairs = np.unique(np.stack([rng.integers(0, 60, 900), rng.integers(0, 40, 900)]), axis=1)
    order = rng.permutation(pairs.shape[1])
    train, val, test = (np.sort(part) for part in np.split(order, [400, 500]))
    np.savez_compressed(
        split,
        train=pairs[:, train].astype(np.int32),
        val=pairs[:, val].astype(np.int32),
        test=pairs[:, test].astype(np.int32),
        num_users=60,
        num_items=40,
    )
    codes = tmp_path / "codes.safetensors"
    assert baco("compress", split, "--out", codes, "--dim", 8, "-q")[0] == 0
    common = ["--codes", codes, "--epochs", 1, "--dim", 8, "--json"]
    code, stdout, _ = baco("train", split, *common)
    assert code == 0
    assert json.loads(stdout)["codebook_rows"] == CoclusteringResult.load(codes).codebook_rows
    code, stdout, stderr = baco("train", clicks, *common)
    assert (code, stdout) == (2, "")
    assert "another graph" in stderr


def test_compare_prints_a_table_and_draws_a_picture(baco, clicks, tmp_path):
    out = tmp_path / "comparison"
    words = ("compare", clicks, "--epochs", 2, "--dim", 8, "--out", out, "-q")
    code, stdout, _ = baco(*words)
    assert code == 0
    for word in ("full", "random", "baco-multilevel", "params", "bytes", "share", "seconds", "test recall", "ndcg"):
        assert word in stdout
    assert "100.0%" in stdout  # of the full table's recall has the full table
    files = {
        "comparison.json",
        "comparison.csv",
        "comparison.md",
        "comparison.png",
        "clustering.png",
        "lost.png",
        "runs",
    }
    assert {path.name for path in out.iterdir()} == {*files, "comparison.settings.yml"}
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((out / "comparison.json").read_text())["table"]
    assert [row["method"] for row in table] == ["full", "random", "baco-multilevel", "bisecting", "affinity", "product"]
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    assert len(before) == 6
    assert baco(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()} == before, "nothing is run twice"


def test_compare_of_budgets_in_bytes_has_the_method_that_spends_them_on_bits(baco, clicks, tmp_path):
    def planned(*budget):
        code, stdout, _ = baco("compare", clicks, *budget, "--budget-measure", "bytes", "--dry-run", "--json")
        assert code == 0
        return [
            re.match(r"clicks-lightgcn-(.*?)(-\d+(-rows)?)?-seed0-", run["name"])[1]
            for run in json.loads(stdout)["runs"]
        ]

    assert planned("--budgets", "0.25") == [
        "full",
        "random",
        "baco-multilevel",
        "bisecting",
        "affinity",
        "product",
        "quantized",
    ]
    assert planned("--budgets", "30") == ["full", "random", "baco-multilevel", "bisecting", "affinity", "product"]


@pytest.mark.parametrize("command", [("train", "--method"), ("compare", "--methods")])
@pytest.mark.parametrize("budget", [("--budget", "0.5"), ("--budget-rows", "30", "--budget-measure", "bytes")])
def test_a_budget_that_buys_no_bits_is_refused_before_any_data_are_read(baco, command, budget):
    code, _, stderr = baco(command[0], "nowhere.csv", command[1], "quantized", *budget)
    assert code == 2
    assert "budget must be a share of the bytes for method 'quantized'" in stderr
    assert "nowhere" not in stderr


def test_compare_runs_a_grid_and_tells_beforehand_what_there_is(baco, clicks, tmp_path):
    grid = ("--methods", "full,random", "--budgets", "0.25,30", "--models", "mf,lightgcn", "--seeds", "0,1")
    words = ("compare", clicks, *grid, "--epochs", 1, "--dim", 4, "--out", tmp_path / "grid", "--json")
    planned = json.loads(baco(*words, "--dry-run")[1])["runs"]
    assert len(planned) == 2 * 2 * (1 + 2)
    assert not any(run["done"] for run in planned)
    assert not (tmp_path / "grid").exists()
    done = json.loads(baco(*words)[1])
    assert (done["unfinished"], len(done["runs"])) == (0, 12)
    assert {row["seeds"] for row in done["table"]} == {2}
    assert {(row["method"], row["budget"]) for row in done["table"]} == {
        ("full", None),
        ("random", 0.25),
        ("random", 30),
    }
    assert (tmp_path / "grid" / "comparison.png").exists()
    assert all(run["done"] for run in json.loads(baco(*words, "--dry-run")[1])["runs"])
    assert "12 runs, 12 done" in baco(*words[:-1], "--dry-run")[1]


def test_the_published_preset_is_the_default_of_other_options(baco, clicks):
    words = ("compare", clicks, "--methods", "random", "--preset", "published", "--epochs", 1, "--dim", 4, "--json")
    training = json.loads(baco(*words)[1])["runs"][0]["run"]["training"]
    assert training["epochs"] == 1
    chosen = {name: training[name] for name in ("batch_size", "learning_rate", "patience", "embedding_std")}
    assert chosen == {"batch_size": 1024, "learning_rate": 1e-3, "patience": 50, "embedding_std": 1.0}


def test_methods_that_choose_their_own_size_stand_beside_those_of_a_budget(baco, clicks):
    grid = ("--methods", "brim,random", "--budgets", "0.25,0.5")
    words = ("compare", clicks, *grid, "--epochs", 1, "--dim", 4, "--json")
    runs = json.loads(baco(*words)[1])["runs"]
    assert [(run["run"]["method"], run["run"]["budget"]) for run in runs] == [
        ("brim", None),
        ("random", 0.25),
        ("random", 0.5),
    ]
    assert all(run["figures"]["epochs"] == 1 for run in runs)


def test_evaluations_can_be_further_apart(baco, clicks):
    words = ("compare", clicks, "--methods", "random", "--epochs", 5, "--evaluate-every", 2, "--dim", 4, "--json")
    assert [epoch for epoch, _ in json.loads(baco(*words)[1])["runs"][0]["curve"]] == [2, 4, 5]


def test_the_published_budget_is_refused_for_other_data_of_that_name(baco, clicks, tmp_path):
    beauty = tmp_path / "beauty.csv"
    beauty.write_bytes(clicks.read_bytes())
    code, _, stderr = baco("compare", beauty, "--methods", "random", "--preset", "published", "-q")
    assert code == 2
    assert "published has 9000 codebook rows for beauty, more than the 500 users and items of these data" in stderr


def test_a_former_name_of_a_method_is_heeded_and_the_present_one_said(baco, clicks):
    code, stdout, stderr = baco("train", clicks, "--method", "narrow", "--epochs", 1, "--dim", 4, "--json")
    assert code == 0
    assert json.loads(stdout)["method"] == "low-dim"
    assert stderr.splitlines() == ["method 'narrow' is called 'low-dim' now: write that"]
    code, stdout, stderr = baco("compare", clicks, "--methods", "narrow,full", "--dry-run")
    assert code == 0
    assert "low-dim" in stdout
    assert stderr.splitlines()[0] == "method 'narrow' is called 'low-dim' now: write that"


def test_the_list_of_methods_is_narrow_and_explains_itself(baco):
    stdout = baco("methods")[1]
    assert max(map(len, stdout.splitlines())) <= 100
    assert "SIDES: users, items, both, none" in stdout


@pytest.mark.parametrize("words", [("--epochs", "x"), ("--epochs=x",), ("--blocks", "x"), ("--dropout", "x")])
def test_what_is_no_number_is_named(baco, clicks, words):
    code, _, stderr = baco("train", clicks, "--model", "sasrec", *words)
    kind = "a number" if "dropout" in words[0] else "an integer"
    assert (code, stderr) == (2, f"baco: error: {words[0].partition('=')[0]} must be {kind}, got 'x'\n")


def test_a_budget_each_for_users_and_items(baco, clicks, tmp_path):
    out = tmp_path / "codes.safetensors"
    words = ("compress", clicks, "--budget-rows", "users=40,items=20", "--json")
    code, stdout, _ = baco(*words, "--out", out)
    assert code == 0
    figures = json.loads(stdout)
    assert (figures["user_clusters"], figures["item_clusters"]) == (40, 20)
    again = json.loads(baco("compress", clicks, "--config", out.with_suffix(".settings.yml"), "--json")[1])
    assert again["labels_sha256"] == figures["labels_sha256"]
    written = tmp_path / "by-side.yml"
    written.write_text("budget-rows: {users: 40, items: 20}\n")
    again = json.loads(baco("compress", clicks, "--config", written, "--json")[1])
    assert again["labels_sha256"] == figures["labels_sha256"]


def test_a_comparison_at_a_budget_each(baco, clicks, tmp_path):
    common = ("--epochs", 1, "--dim", 8, "--models", "mf", "-q")
    words = ("compare", clicks, "--budget", "users=0.3,items=0.6", *common, "--out", tmp_path, "--json")
    code, stdout, stderr = baco(*words)
    assert code == 0, stderr
    rows = json.loads(stdout)["table"]
    assert {row["method"] for row in rows} >= {"full", "random", "baco-multilevel", "product"}
    assert "affinity" not in {row["method"] for row in rows}
    assert {str(row["budget"]) for row in rows} == {"None", "{'users': 0.3, 'items': 0.6}"}
    assert "at users 30%, items 60%" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("users=0.5", "expected users=..,items=.., got 'users=0.5'"),
        ("users=0.5,items=x", "'x' is no number"),
        ("users=0.5,items=0.1,users=0.2", "expected users=..,items=.., got"),
    ],
)
def test_budgets_by_side_that_are_none(baco, clicks, budget, message):
    code, _, stderr = baco("compress", clicks, "--budget", budget)
    assert code == 2
    assert message in stderr


def test_a_file_to_serve_is_no_clustering_and_is_said_to_be_what_it_is(baco, clicks, tmp_path):
    out, export = tmp_path / "model.safetensors", tmp_path / "tables.safetensors"
    words = ("train", clicks, "--model", "mf", "--epochs", 1, "--dim", 8, "-q")
    assert baco(*words, "--out", out, "--export", export)[0] == 0
    for path, kind in ((export, "tables to serve"), (out, "a trained model")):
        code, _, stderr = baco("inspect", path)
        assert code == 2
        assert f"expected a co-clustering saved by baco_gpu, got {kind}" in stderr


def test_methods_are_listed(baco):
    methods = {method["name"]: method for method in json.loads(baco("methods", "--json")[1])["methods"]}
    assert {"full", "low-dim", "random", "louvain", "baco", "baco-multilevel", "residual", "affinity"} <= set(methods)
    assert methods["baco-multilevel"]["secondary"] == "users"
    assert methods["random"]["secondary"] is None
    stdout = baco("methods")[1]
    assert all(name in stdout for name in methods)


def test_what_was_written_is_told_and_lines_end_where_their_text_does(baco, clicks, tmp_path):
    out, labels = tmp_path / "codes.safetensors", tmp_path / "labels.csv"
    printed = baco("compress", clicks, "--out", out, "--labels", labels, "-q")[1]
    assert f"{out}, {labels}, {tmp_path / 'codes.settings.yml'}" in printed
    assert "budget 0.25, budget_measure parameters" in baco("inspect", out)[1]
    for text in (printed, baco("inspect", out)[1], baco("methods")[1]):
        assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_narrow_terminal_cuts_neither_names_nor_numbers(baco, clicks, tmp_path, monkeypatch, width):
    out = tmp_path / "codes.safetensors"
    baco("compress", clicks, "--out", out, "-q")
    compared = ("compare", clicks, "--methods", "full,random", "--epochs", 1, "--dim", 4)
    table = json.loads(baco(*compared, "--json")[1])["table"]
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (("methods",), ("inspect", out), (*compared, "-q"), ("data", "describe", clicks, "-q")):
        printed = baco(*words)[1]
        assert "\u2026" not in printed, words
        assert max(map(len, printed.splitlines())) <= width
    printed = baco(*compared, "-q")[1]
    for row in table:
        assert re.search(rf"\b{row['recall@20']:.4f}\b", printed)


def test_a_narrow_terminal_folds_a_checksum_and_keeps_it_whole(baco, clicks, tmp_path, monkeypatch):
    out = tmp_path / "codes.safetensors"
    summary = json.loads(baco("compress", clicks, "--out", out, "--json")[1])
    monkeypatch.setenv("COLUMNS", "60")
    printed = baco("inspect", out)[1]
    assert max(map(len, printed.splitlines())) <= 60
    assert summary["labels_sha256"] in "".join(printed.split())


def test_inspect_names_the_largest_clusters_by_raw_id(baco, clicks, tmp_path):
    out = tmp_path / "codes.safetensors"
    baco("compress", clicks, "--out", out, "-q")
    description = json.loads(baco("inspect", out, "--largest", 2, "--members", 3, "--json")[1])
    assert len(description["largest"]) == 2
    assert all(user.startswith("u") for user in description["largest"][0]["some_users"])
    assert 0 <= description["balance"]["users"]["gini_sizes"] < 1
    code, stdout, _ = baco("inspect", out)
    assert code == 0
    assert "largest clusters" in stdout


def test_env_lists_versions(baco):
    facts = json.loads(baco("env", "--json")[1])
    assert facts["packages"]["baco_gpu"]
    assert facts["backend"] == "cpu"
    assert baco("env")[0] == 0


def test_env_says_what_each_backend_has_done_just_now(baco):
    facts = json.loads(baco("env", "--json")[1])
    assert facts["backend_cpu"].startswith("ran: solved a graph of ")
    assert facts["training_cpu"] == "ran: a lookup and its gradient"
    if cuda_obstacle() is not None:
        assert facts["backend_cuda"].startswith("did not run: backend='cuda' is not available: ")


@on_kernels
class TestEnvWithGPUs:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        Machine(devices=2).install(monkeypatch)

    def test_each_of_them_is_told_of(self, baco):
        facts = json.loads(baco("env", "--json", "--backend", "cuda:1")[1])
        ran = facts["backend_cpu"]
        assert [facts[f"backend_cuda:{number}"] for number in (0, 1)] == [ran, ran]

    def test_what_fails_or_goes_wrong_on_one_is_its_own(self, baco, monkeypatch):
        launch = CudaLauncher.__call__

        def launched(self, kernel, values, blocks, arguments):
            if self.device == 0:
                raise RuntimeError(f"cudaErrorNoKernelImageForDevice: no kernel image\nfor {kernel}")
            if kernel != "label_tiny":
                launch(self, kernel, values, blocks, arguments)

        monkeypatch.setattr(CudaLauncher, "__call__", launched)
        facts = json.loads(baco("env", "--json")[1])
        assert facts["backend_cuda:0"] == "did not run: cudaErrorNoKernelImageForDevice: no kernel image"
        assert facts["backend_cuda:1"].endswith(", WITH OTHER LABELS THAN THE CPU")
        assert "OTHER" not in facts["backend_cpu"]


MISTAKES = {
    "no such command": (["shrink"], "No such command"),
    "no such option": (["compress", "CLICKS", "--colour", "red"], "No such option"),
    "no such file": (["compress", "nowhere.csv"], "nowhere.csv: expected a file"),
    "unknown suffix": (["compress", "FOLDER/data.xls"], "data.xls"),
    "budget of zero": (["compress", "CLICKS", "--budget", "0"], "budget must be a finite number above 0"),
    "budget above one": (["compress", "CLICKS", "--budget", "1.5"], "at most 1"),
    "budget not a number": (["compress", "CLICKS", "--budget", "half"], "Invalid value for '--budget'"),
    "budget out of reach": (["compress", "CLICKS", "--budget", "0.001"], "below what this graph can reach: 0.004 (2"),
    "two budgets": (["compress", "CLICKS", "--budget", "0.2", "--budget-rows", "9"], "got both"),
    "no rows": (["compress", "CLICKS", "--budget-rows", "0"], "at least 1"),
    "unknown solver": (["compress", "CLICKS", "--solver", "magic"], "solver must be one of 'multilevel', 'paper'"),
    "negative gamma": (["compress", "CLICKS", "--gamma", "-1"], "gamma must be"),
    "gamma and budget": (
        ["compress", "CLICKS", "--solver", "paper", "--gamma", "1", "--budget", "0.3"],
        "either gamma",
    ),
    "unknown column": (["compress", "CLICKS", "--user-column", "who"], "who"),
    "no CUDA": (["compress", "CLICKS", "--backend", "cuda"], "backend='cuda' is not available"),
    "unknown backend": (["compress", "CLICKS", "--backend", "tpu"], "backend must be one of"),
    "output in no folder": (["compress", "CLICKS", "--out", "FOLDER/no/codes.safetensors"], "does not exist"),
    "output is a folder": (["compress", "CLICKS", "--out", "FOLDER"], "got a folder"),
    "codes in a table": (["compress", "CLICKS", "--out", "FOLDER/labels.csv"], "ends in .safetensors, got '.csv'"),
    "a model in a table": (["train", "CLICKS", "--out", "FOLDER/model.pt"], "ends in .safetensors, got '.pt'"),
    "labels of another kind": (["compress", "CLICKS", "--labels", "FOLDER/labels.xls"], ".parquet or .csv"),
    "negative seed": (["compress", "CLICKS", "--seed", "-1"], "random_state must be"),
    "unknown method": (["train", "CLICKS", "--method", "magic"], "method must be one of"),
    "gamma for product codes": (
        ["train", "CLICKS", "--gamma", "10"],
        "--gamma has no effect on method 'product': leave it out, or name a method that it has one on, such as "
        "--method baco-multilevel",
    ),
    "sides of a method of both": (
        ["train", "CLICKS", "--method", "affinity", "--secondary", "both"],
        "--secondary has no effect on method 'affinity'",
    ),
    "solver beside codes": (
        ["train", "CLICKS", "--codes", "FOLDER/none.safetensors", "--solver", "paper"],
        "--solver must not be given with --codes, whose clusters are made",
    ),
    "solver to compare nothing by": (
        ["compare", "CLICKS", "--methods", "full,random", "--solver", "paper"],
        "--solver has no effect on method 'full', 'random'",
    ),
    "negatives of a loss of one": (
        ["train", "CLICKS", "--loss", "bpr", "--negatives", "9"],
        "--negatives has no effect on loss 'bpr', which has one: leave it out, or --loss softmax",
    ),
    "unknown model": (["train", "CLICKS", "--model", "bert"], "model must be one of"),
    "no epochs": (["train", "CLICKS", "--epochs", "0"], "epochs must be"),
    "unknown device": (["train", "CLICKS", "--device", "abacus"], "device must name a torch device"),
    "graph without GPU": (["train", "CLICKS", "--cuda-graph"], "cuda_graph must be False where the model is not"),
    "codes from nowhere": (["train", "CLICKS", "--codes", "FOLDER/none.safetensors"], "no such file"),
    "codes of another kind": (["train", "CLICKS", "--codes", "CLICKS"], "not a readable safetensors file"),
    "twice the same method": (["compare", "CLICKS", "--methods", "full,full"], "methods must be different values"),
    "an unknown preset": (["compare", "CLICKS", "--preset", "mine"], "preset must be one of 'published'"),
    "a budget that is none": (["compare", "CLICKS", "--budgets", "0.1,much"], "numbers of rows, separated by commas"),
    "a seed that is none": (["compare", "CLICKS", "--seeds", "0,x"], "seeds must be integers"),
    "budgets of two kinds": (["compare", "CLICKS", "--budgets", "0.1", "--budget", "0.2"], "give --budgets, or one of"),
    "no budget to compare at": (["compare", "CLICKS", "--solver", "paper", "--gamma", "1"], "to one budget"),
    "a budget that is no share": (["compress", "CLICKS", "--budget", "25q"], "'25q' is no number or share such as 25%"),
    "a share of rows": (["compress", "CLICKS", "--budget-rows", "25%"], "'25%' is no whole number"),
    "budgets of one side": (
        ["compare", "CLICKS", "--budgets", "0.2,users=0.1,0.3"],
        "separated by commas: expected users=..,items=.., got 'users=0.1,0.3'",
    ),
    "nearly a command": (["trian"], "Did you mean 'train'?"),
    "nearly a method": (["train", "CLICKS", "--method", "prodct"], "got 'prodct' (did you mean 'product'?)"),
    "nearly methods": (["compare", "CLICKS", "--methods", "full,lovain"], "(did you mean 'louvain'?)"),
    "nearly a model": (["train", "CLICKS", "--model", "lightgnc"], "(did you mean 'lightgcn'?)"),
    "nearly a loss": (["train", "CLICKS", "--loss", "sofmax"], "(did you mean 'softmax'?)"),
    "nearly weights": (["compress", "CLICKS", "--weights", "degre"], "(did you mean 'degree'?)"),
    "nearly a dtype": (["compress", "CLICKS", "--codebook-dtype", "itn4"], "(did you mean 'int4'?)"),
    "nearly a split": (["compress", "CLICKS", "--split", "temporl"], "(did you mean 'temporal'?)"),
    "nearly a set": (["compress", "movielens-10k"], "there is none (did you mean 'movielens-100k'?)"),
    "nearly a set to fetch": (["data", "fetch", "gowala"], "(did you mean 'gowalla'?)"),
    "nearly a solver": (["bench", "--solver", "ful"], "(did you mean 'full'?)"),
    "inspect something else": (["inspect", "CLICKS"], "not a readable safetensors file"),
}


def test_a_budget_may_be_a_percentage(baco, clicks):
    shares = [baco("compress", clicks, "--json", "--budget", budget)[1] for budget in ("0.3", "30%", "30.0 %")]
    rows = {json.loads(stdout)["codebook_rows"] for stdout in shares}
    assert len(rows) == 1
    by_side = [
        json.loads(baco("compress", clicks, "--json", "--budget", budget)[1])["user_clusters"]
        for budget in ("users=0.2,items=0.5", "users=20%,items=50%")
    ]
    assert by_side[0] == by_side[1]


def test_budgets_to_compare_at_may_be_by_side(baco, clicks):
    plan = ("--methods", "full,baco-multilevel", "--dry-run", "--json")
    code, stdout, _ = baco("compare", clicks, "--budgets", "10%,users=0.2,items=50%,40,items=9,users=12", *plan)
    assert code == 0
    names = [run["name"] for run in json.loads(stdout)["runs"]]
    assert len(names) == 5
    for part in ("-10-", "-users-20-items-50-", "-40-rows-", "-users-12-rows-items-9-rows-"):
        assert sum(part in name for name in names) == 1


def commands_of(group, path=()):
    """All commands below a group, by the words that call them."""
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))


def test_no_help_says_what_type_a_flag_has(baco):
    import typer

    from baco_gpu.cli.main import app

    found = list(commands_of(typer.main.get_command(app)))
    assert len(found) > 10
    for words in ([], *found):
        code, stdout, _ = baco(*words, "--help")
        assert code == 0
        assert "--help" in stdout
        assert "<bool>" not in stdout, words


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (("data", "fetch"), ("--seed", "--backend", "--config")),
        (("data", "describe"), ("--backend",)),
        (("data", "convert"), ("--backend",)),
        (("inspect",), ("--seed", "--backend", "--config", "--quiet")),
        (("report",), ("--backend",)),
        (("env",), ("--seed", "--config", "--quiet")),
    ],
)
def test_no_command_has_options_that_do_nothing(baco, words, idle):
    stdout = baco(*words, "--help")[1]
    assert "--json" in stdout
    assert not [option for option in idle if option in stdout]


def test_what_a_training_prints_says_of_which_part_and_beside_what(baco, clicks):
    code, stdout, _ = baco("train", clicks, "--epochs", 1, "--dim", 8, "-q")
    assert code == 0
    assert re.search(r"recall@20 +test 0\.\d{4}, validation 0\.\d{4}", stdout)
    assert re.search(r"bytes +[\d,]+ \(full: [\d,]+; \d+\.\d\d% of it\)", stdout)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_code_2(baco, clicks, tmp_path, mistake):
    words, expected = MISTAKES[mistake]
    (tmp_path / "data.xls").write_text("x")
    arguments = [word.replace("CLICKS", str(clicks)).replace("FOLDER", str(tmp_path)) for word in words]
    code, stdout, stderr = baco(*arguments, "--json" if arguments[0] not in ("shrink", "trian") else "-q")
    assert (code, stdout) == (2, "")
    assert expected in stderr
    assert stderr.startswith("baco: error: ")
    assert stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.xls"]


def test_debug_shows_the_traceback(clicks):
    command = [sys.executable, "-m", "baco_gpu", "compress", str(clicks), "--budget", "2", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


def test_a_full_disk_is_a_failure_that_leaves_the_old_file(baco, clicks, tmp_path, monkeypatch):
    out = tmp_path / "codes.safetensors"
    baco("compress", clicks, "--out", out, "-q")
    before = out.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("baco_gpu.clustering.result_file.save_file", full)
    code, stdout, stderr = baco("compress", clicks, "--out", out, "--seed", 1, "--json")
    assert (code, stdout) == (1, "")
    assert "No space left on device" in stderr
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "codes.settings.yml"]


@pytest.mark.parametrize("command", [["compress"], ["train", "--method", "affinity"]], ids=["compress", "train"])
def test_ctrl_c_ends_with_130_and_writes_nothing(tmp_path, command):
    interactions, _, _ = planted_coclusters(
        *full((60_000, 40_000, 1_000_000), (30_000, 20_000, 500_000)), 500, noise=0.2, seed=1
    )
    data, out = tmp_path / "clicks.csv", tmp_path / "out.safetensors"
    pd.DataFrame({"user": interactions.users, "item": interactions.items}).to_csv(data, index=False)
    arguments = [sys.executable, "-m", "baco_gpu", *command, str(data), "--out", str(out)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:  # the first line about the long phase says that it has begun
        if line.startswith("clustering"):
            break
    time.sleep(0.05 if command == ["compress"] else 1.0)
    process.send_signal(signal.SIGINT)
    stderr, stdout = process.stderr.read(), process.stdout.read()
    assert process.wait(timeout=60) == 130, stderr
    assert stdout == ""
    assert "interrupted; no output was written" in stderr
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def test_a_fault_of_ours_is_one_line_that_says_so(baco, clicks, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("baco_gpu.estimator.balanced_coclustering.cocluster", broken)
    code, stdout, stderr = baco("compress", clicks, "--json")
    assert (code, stdout) == (1, "")
    assert stderr == (
        "baco: error: a fault of baco_gpu, please report it with the output of --debug: "
        "ZeroDivisionError: division by zero\n"
    )
    with pytest.raises(ZeroDivisionError):
        baco("compress", clicks, "--json", debug=True)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory_is_no_fault_of_ours(baco, clicks, monkeypatch, error):
    def too_large(*arguments, **options):
        raise error("tried to allocate 20 GiB")

    monkeypatch.setattr("baco_gpu.estimator.balanced_coclustering.cocluster", too_large)
    code, _, stderr = baco("compress", clicks)
    assert code == 1
    assert re.fullmatch(r"baco: error: not enough memory.*: tried to allocate 20 GiB", stderr.splitlines()[-1])


@pytest.mark.parametrize("command", ["compress", "train", "compare", "bench", "recommend", "inspect", "report", "env"])
def test_help_has_the_common_options_and_an_example(baco, command):
    code, stdout, _ = baco(command, "--help")
    assert code == 0
    assert "--json" in stdout
    if command in ("compress", "train", "compare", "bench"):
        assert all(option in stdout for option in ("--seed", "--backend", "--quiet", "--config"))
    assert f"\n   baco {command}" in stdout
    assert "\n   baco methods" in baco("methods", "--help")[1]


def test_version_and_exit_codes_are_told(baco):
    code, stdout, _ = baco("--version")
    assert code == 0
    assert stdout.startswith("baco_gpu ")
    stdout = baco("--help")[1]
    assert all(f"\n   {number} " in stdout for number in (0, 1, 2, 130))


def test_no_color_turns_colours_off():
    command = [sys.executable, "-m", "baco_gpu", "compress", "--help"]
    colour = re.compile("\x1b\\[[0-9;]*3[0-9]m")
    shown = {}
    for name in ("FORCE_COLOR", "NO_COLOR"):
        environment = {**os.environ, "FORCE_COLOR": "1", name: "1"}
        shown[name] = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert colour.search(shown["FORCE_COLOR"])
    assert not colour.search(shown["NO_COLOR"])


def test_a_pipe_gets_whole_lines_without_colours(clicks):
    command = [sys.executable, "-m", "baco_gpu", "env"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["python", "platform", "processors", "numba_threads"]
    assert not any("\x1b" in line for line in lines)
    environment = {**os.environ, "COLUMNS": "50"}
    narrow = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert max(map(len, narrow.splitlines())) <= 50
