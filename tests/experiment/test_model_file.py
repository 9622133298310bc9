"""A model file answers as the model does that was trained, whatever the model and its tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from baco_gpu import experiment, load_recommender, load_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.tensor_file import load_tensors
from baco_gpu.training.settings import TrainingSettings
from tiers import full

pytestmark = pytest.mark.heavy("trains models")

SETTINGS = TrainingSettings(epochs=2, batch_size=512, patience=None, ks=(5,))
METHODS = (
    "product",
    "trellis",
    "full",
    "affinity",
    "quantized",
    "product:integers",
    "low-dim",
    "legcf",
    "residual",
    "bisecting",
)


@pytest.fixture(scope="module")
def split():
    clicks, _, _ = planted_coclusters(150, 90, 2000, 8, noise=0.1, seed=5)
    times = np.random.default_rng(0).permutation(len(clicks))
    frame = pd.DataFrame({"user": clicks.users, "item": clicks.items, "timestamp": times})
    named = frame.assign(user=[f"u{number}" for number in clicks.users], item=clicks.items * 3 + 1)
    return load_split(named, split="leave-last-out", timestamp_column="timestamp")


def trained(split, model, method):
    measure = "bytes" if method in ("quantized", "product:integers") else "parameters"
    estimator = BalancedCoclustering(embedding_dim=8, budget=0.4, budget_measure=measure)
    sides = ("items",) if model == "sasrec" else ("users", "items")
    return experiment.run(
        split, experiment.compress(split, method, estimator, sides=sides), model, SETTINGS, options=OPTIONS[model]
    )


OPTIONS = {"mf": {}, "lightgcn": {"layers": 1}, "sasrec": {"length": 6, "blocks": 1}}
CASES = [("mf", method) for method in METHODS]
CASES += [("lightgcn", method) for method in full(METHODS, ("product",))]
CASES += [("sasrec", method) for method in full(("product", "full", "quantized", "low-dim"), ("product",))]


@pytest.mark.parametrize(("model", "method"), CASES)
def test_a_file_answers_as_the_model_does(split, tmp_path, model, method):
    outcome = trained(split, model, method)
    direct = outcome.recommender()
    read = load_recommender(experiment.save_model(outcome, tmp_path / "model.safetensors"))
    for mine, theirs in ((read.users, direct.users), (read.items, direct.items)):
        ids = np.arange(mine.num_embeddings)
        assert np.array_equal(mine.lookup(ids), theirs.lookup(ids))
    users, items = outcome.model.ranked()
    with torch.no_grad():
        own = users(torch.arange(split.num_users)).numpy()
    assert np.allclose(direct.users.lookup(np.arange(split.num_users)), own, atol=1e-6)
    assert np.allclose(direct.items.lookup(np.arange(split.num_items)), items.detach().numpy(), atol=1e-6)
    answers = read.recommend(read.user_ids, 5)
    assert answers.equals(direct.recommend(direct.user_ids, 5))
    seen = {(user, item) for part in split.parts for user, item in zip(part.users, part.items, strict=True)}
    vocabularies = split.train.user_vocabulary, split.train.item_vocabulary
    users, items = (
        vocabulary.lookup(answers[name]) for vocabulary, name in zip(vocabularies, ("user", "item"), strict=True)
    )
    assert not seen & set(zip(users, items, strict=True))
    assert len(answers) == 5 * split.num_users


def test_answers_find_what_the_evaluation_finds(split):
    outcome = trained(split, "mf", "full")
    known = experiment.recommender_of(outcome.model, split.train)  # the test part is unseen, as it is ranked
    answers = known.recommend(known.user_ids, 5)
    wanted = set(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True))
    users, items = (
        vocabulary.lookup(answers[name]).tolist()
        for vocabulary, name in ((split.train.user_vocabulary, "user"), (split.train.item_vocabulary, "item"))
    )
    hits = len(wanted & set(zip(users, items, strict=True)))
    assert hits / len(split.test) == pytest.approx(outcome.training.test["recall@5"])


def test_weights_and_indices_come_back(split, tmp_path):
    bare = [
        replace(part, user_vocabulary=None, item_vocabulary=None, weights=np.arange(len(part)) + 1.0)
        for part in split.parts
    ]
    weighted = type(split)(*bare)
    outcome = trained(weighted, "lightgcn", "full")
    read = load_recommender(experiment.save_model(outcome, tmp_path / "model.safetensors"))
    ids = np.arange(split.num_users)
    assert np.array_equal(read.users.lookup(ids), outcome.recommender().users.lookup(ids))
    assert read.recommend([0, 3], 2)["user"].tolist() == [0, 0, 3, 3]


def test_another_file_and_a_damaged_one_are_refused(split, tmp_path):
    outcome = trained(split, "mf", "product")
    path = experiment.save_model(outcome, tmp_path / "model.safetensors")
    tables = experiment.export_tables(outcome, tmp_path / "tables.safetensors")
    with pytest.raises(InputError, match="expected a trained model, got tables to serve"):
        load_recommender(tables)
    with pytest.raises(InputError, match="no such file; expected one written by baco train --out"):
        load_recommender(tmp_path / "none.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged model \(its contents do not match their checksum"):
        load_recommender(path)


def test_a_model_is_smaller_than_floats_in_its_file(split, tmp_path):
    path = experiment.save_model(trained(split, "mf", "product"), tmp_path / "model.safetensors")
    arrays, _ = load_tensors(path, "baco_gpu.model", 3, what="a model", written_by="save_model")
    assert arrays["items.codes"].dtype == np.uint8
    assert not arrays["items.codebook"].size
