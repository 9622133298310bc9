"""What is shown of an object is a line, however much it holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import BalancedCoclustering, BipartiteGraph, CodebookEmbedding, Recommender, compress_module, experiment
from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.tables.export import served_table
from baco_gpu.training import TrainingSettings

LONGEST = 400


@pytest.mark.heavy("trains a model")
def test_what_users_hold_shows_itself_in_a_line():
    clicks, _, _ = planted_coclusters(200, 120, 2500, 8, seed=5)
    split = random_split(clicks, (0.8, 0.1, 0.1), 0)
    graph = BipartiteGraph.from_interactions(split.train)
    clustering = BalancedCoclustering(budget=0.3, embedding_dim=8)
    result = clustering.fit(graph).result_
    compression = experiment.compress(split, "baco-multilevel", clustering)
    settings = TrainingSettings(epochs=2, patience=None)
    outcome = experiment.run(split, compression, "mf", settings)
    model = nn.ModuleDict({"user": nn.Embedding(200, 8), "item": nn.Embedding(120, 8)})
    report = compress_module(model, {"user": result.users, "item": result.items})
    table = CodebookEmbedding(result.users.labels, 8, result.users.secondary)
    held = [clicks, split, graph, clustering, result, result.users, result.cluster(0), result.plot, result.table]
    held += [compression, outcome, outcome.training, settings, outcome.recommender(), result.update(graph)]
    held += [
        table,
        served_table(table),
        Vocabulary(np.arange(9)),
        Recommender(torch.eye(3).numpy(), np.eye(3, dtype="f4")),
    ]
    for each in (*held, report):
        text = repr(each)
        assert type(each).__name__ in text or each is result.plot or isinstance(each, type(result.plot))
        assert len(text) <= LONGEST, text
        assert "array(" not in text, text
        assert "tensor(" not in text, text
    assert repr(clicks).startswith("Interactions(2,500 of 200 users and 120 items")
    assert repr(split).startswith("SplitInteractions(")
    assert "co-clusters" in repr(result.users)
