"""Arguments of another kind than expected: calls on graphs, data, clusterings and answers name them in a line."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch.distributed as dist

from baco_gpu import (
    BalancedCoclustering,
    BipartiteGraph,
    CoclusteringResult,
    Recommender,
    load_compressed,
    load_interactions,
    load_split,
)
from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_clicks, planted_coclusters
from baco_gpu.data.temporal import leave_last_out, temporal_split
from baco_gpu.errors import InputError
from baco_gpu.training import Checkpoint, TrainingSettings

ODD = {
    "fraction": 2.5,
    "text": "??",
    "texts": ["a", None],
    "uneven": [[0], [1, 2]],
    "mapping": {"a": 1},
    "object": object(),
    "kind": BalancedCoclustering,
    "no dimension": np.array(2.5),
    "NaN": np.array([0, 1, 2, 3, np.nan]),
    "bytes": b"01234",
    "huge": 2**70,
}
VECTORS = np.ones((30, 4), np.float32), np.ones((20, 4), np.float32)


@functools.cache
def clicks():
    return planted_coclusters(30, 20, 200, 3, seed=0)[0]


@functools.cache
def result() -> CoclusteringResult:
    return BalancedCoclustering(0.4).fit(clicks()).result_


def fit(**options):
    return BalancedCoclustering(**{"budget": 0.4, **options}).fit(clicks())


def recommend(**options):
    return Recommender(*VECTORS, clicks()).recommend([0, 1], **options)


def read(**options):
    return load_interactions("clicks.csv", **options)


# Of parameters where 2**70, a text or a path is right: what is not odd.
CALLS = {
    **{
        f"BalancedCoclustering({name})": (lambda odd, name=name: fit(**{name: odd}), ())
        for name in ("solver", "weights", "secondary", "backend", "codebooks", "codebook_dtype", "budget_measure")
    },
    **{
        f"BalancedCoclustering({name})": (lambda odd, name=name: fit(**{name: odd}), ())
        for name in ("random_state", "embedding_dim", "value_bytes", "sweeps", "levels", "refinements")
    },
    "BalancedCoclustering(gamma)": (lambda odd: fit(gamma=odd), ("fraction", "huge")),
    "BalancedCoclustering(process_group)": (lambda odd: fit(process_group=odd), ()),
    "fit": (lambda odd: BalancedCoclustering(0.4).fit(odd), ()),
    "from_interactions": (BipartiteGraph.from_interactions, ()),
    "from_edges(user_vocabulary)": (lambda odd: BipartiteGraph.from_edges([0, 1], [0, 1], user_vocabulary=odd), ()),
    "from_edges(item_vocabulary)": (lambda odd: BipartiteGraph.from_edges([0, 1], [0, 1], item_vocabulary=odd), ()),
    "similar": (lambda odd: result().similar(odd), ()),
    "similar(side)": (lambda odd: result().similar(0, side=odd), ()),
    "similar(limit)": (lambda odd: result().similar(0, limit=odd), ("huge",)),
    "cluster": (lambda odd: result().cluster(odd), ()),
    "plot.blocks": (lambda odd: result().plot.blocks(odd), ()),
    "load_compressed": (load_compressed, ()),
    "update": (lambda odd: result().update(odd), ()),
    "update(sweeps)": (lambda odd: result().update(clicks(), sweeps=odd), ()),
    "Recommender(users)": (lambda odd: Recommender(odd, VECTORS[1]), ()),
    "Recommender(items)": (lambda odd: Recommender(VECTORS[0], odd), ()),
    "Recommender(interactions)": (lambda odd: Recommender(*VECTORS, odd), ()),
    "recommend(k)": (lambda odd: recommend(k=odd), ("huge",)),
    "recommend(exclude_seen)": (lambda odd: recommend(exclude_seen=odd), ()),
    "similar_items": (lambda odd: Recommender(*VECTORS).similar_items(odd), ()),
    **{
        f"load_interactions({name})": (lambda odd, name=name: read(**{name: odd}), ())
        for name in ("format", "separator", "where", "user_column", "item_column", "weight_column", "rating_column")
    },
    "load_interactions(core)": (lambda odd: read(core=odd), ()),
    "load_interactions(min_rating)": (lambda odd: read(min_rating=odd, rating_column="rating"), ("fraction",)),
    "load_split(seed)": (lambda odd: load_split("clicks.csv", seed=odd), ()),
    "random_split": (random_split, ()),
    "random_split(fractions)": (lambda odd: random_split(clicks(), odd), ()),
    "random_split(seed)": (lambda odd: random_split(clicks(), seed=odd), ()),
    "leave_last_out": (leave_last_out, ()),
    "temporal_split": (temporal_split, ()),
    "planted_coclusters(num_edges)": (lambda odd: planted_coclusters(30, 20, odd, 3), ()),
    "planted_clicks(num_events)": (lambda odd: planted_clicks(odd, [30, 20], 3, tied=1), ()),
    "planted_clicks(sizes)": (lambda odd: planted_clicks(100, odd, 3, tied=0), ()),
    "Checkpoint(path)": (Checkpoint, ("text",)),
    "Checkpoint(resume)": (lambda odd: Checkpoint("run.safetensors", resume=odd), ()),
    **{
        f"TrainingSettings({name})": (lambda odd, name=name: TrainingSettings(**{name: odd}), ())
        for name in ("epochs", "batch_size", "patience", "seed", "loss", "negatives", "embedding_init", "ks", "device")
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = zip(clicks().users.tolist(), clicks().items.tolist(), strict=True)
    (tmp_path / "clicks.csv").write_text("user,item,rating\n" + "".join(f"{u},{i},3\n" for u, i in pairs))


@pytest.mark.heavy("solves a graph")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("odd", ODD)
def test_an_argument_of_another_kind_is_named_in_a_line(call, odd, tmp_path):
    function, fine = CALLS[call]
    if odd in fine:
        function(ODD[odd])
        return
    with pytest.raises(InputError) as caught:
        function(ODD[odd])
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["clicks.csv"]


@pytest.mark.heavy("solves a graph")
def test_integers_of_few_bits_are_integers():
    """What is computed from them does not run over."""
    few = np.int8(100)
    assert len(recommend(k=few)) == len(recommend(k=100))
    assert len(planted_coclusters(30, 20, few, 3)[0]) == 100
    assert TrainingSettings(batch_size=few).batch_size * 2 == 200
    one, other = (random_split(clicks(), seed=seed) for seed in (few, 100))
    np.testing.assert_array_equal(one.test.users, other.test.users)


@pytest.mark.heavy("solves a graph")
def test_messages_say_what_was_expected_and_what_came():
    for call, message in {
        lambda: fit(process_group=3): "process_group must be a ProcessGroup, got 3",
        lambda: fit(levels=2**70): "levels must be an integer from 1 to 1000, got 1180591620717411303424",
        lambda: BipartiteGraph.from_interactions([1]): r"interactions must be an Interactions, got \[1\]",
        lambda: BipartiteGraph.from_interactions(
            load_split("clicks.csv")
        ): "must be an Interactions, got SplitInteract",
        lambda: recommend(exclude_seen="no"): "exclude_seen must be True or False, got 'no'",
        lambda: read(user_column=3): "user_column must be a string, got 3",
        lambda: planted_clicks(9, None, 3, tied=0): "sizes must be a list, got None",
    }.items():
        with pytest.raises(InputError, match=message):
            call()
    assert not dist.is_initialized()
