"""What is shown of a result: figures, labels by raw id, progress."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.cli.console import ProgressDisplay
from baco_gpu.clustering.inspect.statistics import describe, gini
from baco_gpu.data.labels import write_labels
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_gini_is_the_mean_difference_over_twice_the_mean(values):
    array = np.array(values, dtype=float)
    differences = np.abs(array[:, None] - array[None, :]).mean()
    expected = differences / (2 * array.mean()) if array.sum() else 0.0
    assert gini(array) == pytest.approx(expected, abs=1e-12)


def result():
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 40, 300), rng.integers(0, 30, 300)
    graph = BipartiteGraph.from_edges(
        users,
        items,
        num_users=40,
        num_items=30,
        duplicates="drop",
        user_vocabulary=Vocabulary([f"u{k:02}" for k in range(40)]),
        item_vocabulary=Vocabulary(range(100, 130)),
    )
    return BalancedCoclustering().fit(graph).result_


def test_description_adds_up():
    clustering = result()
    description = describe(clustering, largest=10_000, members=10_000)
    rows = description["largest"]
    assert sum(row["users"] for row in rows) == 40
    assert sum(row["items"] for row in rows) == 30
    assert sum(row["user_volume"] for row in rows) == clustering.num_edges
    assert sorted(user for row in rows for user in row["some_users"]) == [f"u{k:02}" for k in range(40)]
    assert description["balance"]["users"]["clusters"] == clustering.users.rows
    sizes = [row["users"] + row["items"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_by_raw_id(tmp_path, suffix):
    clustering = result()
    path = tmp_path / f"labels{suffix}"
    write_labels(path, {"user": clustering.users.to_frame(), "item": clustering.items.to_frame()})
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    users = table[table.side == "user"]
    assert users.id.tolist() == [f"u{k:02}" for k in range(40)]
    assert users.cluster.tolist() == clustering.users.labels.tolist()
    assert table[table.side == "item"].id.astype(int).tolist() == list(range(100, 130))
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        write_labels(tmp_path / "labels.txt", {})


def test_progress_is_plain_lines_off_a_terminal(capsys):
    with ProgressDisplay(hidden=False) as display:
        for done in range(1, 5):
            display.report("working", done, 4, "so far")
        display.named("ours")("training", 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["working 1/4: so far", "working 4/4: so far", "ours: training 1/1"]


def test_hidden_progress_is_silent(capsys):
    with ProgressDisplay(hidden=True) as display:
        display.report("working", 1, 2, "")
        display.named("ours")("training", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with ProgressDisplay(hidden=False) as display:
        display.report("working", 1, 2, "half way")
        display.report("working", 2, 2, "done")
    assert "working" in capsys.readouterr().err
