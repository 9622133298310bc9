"""Ids that were not seen for long give their rows back, and there are as many rows as before."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult, compress_module, resize_module
from baco_gpu.clustering.extend.forgetting import fill_rows
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from graphs import random_graph

DAY = 86400


def clicks(users=range(300), items=range(200), seed=0, text=False):
    """Interactions by raw id between these of 300 users and 200 items, a day apart."""
    made = planted_coclusters(300, 200, 4000, 12, seed=seed)[0]
    own = np.isin(made.users, users) & np.isin(made.items, items)
    ids = [Vocabulary(np.unique(part[own])) for part in (made.users, made.items)]
    found = [vocabulary.lookup(part[own]) for vocabulary, part in zip(ids, (made.users, made.items), strict=True)]
    if text:
        ids = [
            Vocabulary([f"{side}{raw:03}" for raw in part.decode(np.arange(len(part)))])
            for side, part in zip("ui", ids, strict=True)
        ]
    times = np.arange(int(own.sum())) * DAY
    return Interactions(*found, *map(len, ids), None, *ids, times)


def fitted(data, **parameters):
    return BalancedCoclustering(**{"budget": 60, "secondary": "none", **parameters}).fit(data).result_


def rows(result):
    return result.users.rows, result.items.rows


@pytest.mark.parametrize("parameters", [{}, {"codebooks": "shared"}, {"budget": {"users": 20, "items": 12}}])
def test_ids_not_seen_in_so_many_updates_are_gone_and_their_rows_are_others(parameters):
    result = fitted(clicks(text=True), **parameters)
    before, later = result, clicks(users=range(60, 300), items=range(30, 200), seed=1, text=True)
    first = before.update(later, forget=2).result
    assert len(first.users) == len(before.users), "one update is not two"
    assert first.users.unseen.max() == 1
    second = first.update(later, forget=2).result
    assert len(second.users) == later.num_users
    assert len(second.items) == later.num_items
    assert second.num_edges == BipartiteGraph.from_interactions(later).num_edges
    if result.shared:
        assert second.codebook_rows <= result.codebook_rows
        labels = [np.concatenate((each.users.labels, each.items.labels)) for each in (result, second)]
        assert set(labels[1]) == set(labels[0])
    else:
        assert rows(second) == rows(result)
        for side in ("users", "items"):
            assert set(getattr(second, side).labels) == set(getattr(result, side).labels)
    assert second.labels_sha256 == first.update(later, forget=2).result.labels_sha256
    places = result.users.places_in(second.users, forgotten=True)
    gone = ~np.isin(result.users.to_frame()["id"], second.users.to_frame()["id"])
    assert (places[gone] == -1).all()
    assert (second.users.raw_ids(places[~gone]) == result.users.raw_ids(np.flatnonzero(~gone))).all()
    with pytest.raises(InputError, match="grown must have all 300 nodes of this side, got one without"):
        result.users.places_in(second.users)


def test_ids_are_forgotten_by_a_date():
    data = clicks()
    result = fitted(data)
    half = len(data) // 2
    last = [np.full(size, -1) for size in (data.num_users, data.num_items)]
    for part, ids in zip(last, (data.users, data.items), strict=True):
        np.maximum.at(part, ids, data.timestamps)
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=half)
    found = {}
    for said in (day.isoformat(), day, np.datetime64(day), f"{day}T02:00:00+02:00"):
        update = result.update(data, forget=said)
        found[update.result.labels_sha256] = update.result
    (updated,) = found.values()
    kept = [part >= half * DAY for part in last]
    assert updated.users.raw_ids(np.arange(len(updated.users))).tolist() == np.flatnonzero(kept[0]).tolist()
    assert len(updated.items) == kept[1].sum()
    assert not kept[0].all()
    both = kept[0][data.users] & kept[1][data.items]
    assert updated.num_edges == len(set(zip(data.users[both], data.items[both], strict=True)))
    assert rows(updated) == rows(result)


def test_a_row_goes_to_who_gains_most_by_it():
    # Two users with the items of row 1, one of them alone in row 2; user 3 is worst where it is.
    graph = BipartiteGraph.from_edges([0, 0, 1, 1, 2, 3, 3], [0, 1, 0, 1, 2, 2, 3], num_users=4, num_items=4)
    weights = integer_weights(graph, "unit")
    items = np.array([1, 1, 0, 3])
    labels = fill_rows(graph, weights, (np.array([0, 0, 0, 0]), items), 0, np.array([0, 1, 3, 5]), 0.0)
    assert labels.tolist() == [1, 5, 0, 3], "0 and 1 gain two edges by row 1; 3 gains by row 3; 1 fits row 0 least"
    assert fill_rows(graph, weights, (labels, items), 0, np.array([0, 1, 3, 5, 7]), 0.0).tolist() == labels.tolist()


@pytest.mark.parametrize("left", [0, 1, 3])
def test_fewer_ids_than_rows_have_a_row_each(left):
    result = fitted(clicks(), budget=100)
    later = clicks(users=range(left), seed=2)
    updated = result.update(later, forget=1).result
    assert len(updated.users) == later.num_users <= left
    assert rows(updated) == tuple(map(min, rows(result), (later.num_users, later.num_items)))
    if left:
        assert rows(updated.update(clicks(), forget=1).result) == rows(updated)


def test_what_was_last_seen_is_kept_in_files_and_files_of_before_load(tmp_path):
    result = fitted(clicks())
    assert result.users.unseen is None
    seen = clicks(users=range(100, 300), seed=1)
    once = CoclusteringResult.load(result.save(tmp_path / "a.safetensors")).update(seen).result
    again = CoclusteringResult.load(once.save(tmp_path / "b.safetensors"))
    assert (again.users.unseen[:100] == 1).all()
    assert not again.users.unseen[100:].any()
    assert len(again.update(seen, forget=2).result.users) == seen.num_users
    assigned = again.assign(([900], [3]))
    assert assigned.users.unseen.tolist() == [*again.users.unseen.tolist(), 0]
    damaged = replace(again, users=replace(again.users, unseen=-again.users.unseen - 1))
    with pytest.raises(InputError, match=r"users\.unseen holds -2"):
        CoclusteringResult.load(damaged.save(tmp_path / "c.safetensors"))


def test_tables_follow_and_a_row_of_others_starts_as_the_mean_of_what_they_had():
    data = clicks()
    result = fitted(data)
    model = nn.ModuleDict({"user": nn.Embedding(300, 4), "item": nn.Embedding(200, 4)})
    compress_module(model, {"user": result.users, "item": result.items})
    sizes = np.bincount(result.users.labels)
    label = int(np.flatnonzero(sizes == sizes[sizes > 1].min())[0])
    lost = np.flatnonzero(result.users.labels == label)
    updated = result.update(clicks(users=np.setdiff1d(np.arange(300), lost)), forget=1, sweeps=0).result
    old, codebook = model["user"].weight.detach().clone(), model["user"].codebook
    places = {
        name: before.places_in(after, forgotten=True)
        for name, before, after in (("user", result.users, updated.users), ("item", result.items, updated.items))
    }
    resize_module(model, {"user": updated.users, "item": updated.items}, places=places)
    assert model["user"].codebook is codebook
    (heir,) = np.flatnonzero(updated.users.labels == label)
    before = np.flatnonzero(places["user"] == heir)
    np.testing.assert_allclose(model["user"].weight[heir].detach(), old[before][0])
    assert model["user"].num_embeddings == 300 - len(lost)


def test_what_cannot_be_forgotten_is_refused():
    data = clicks()
    result = fitted(data)
    for forget, message in (
        (0, "forget in updates must be an integer at least 1, got 0"),
        (True, "forget in updates must be an integer"),
        ("yesterday", "forget must be a number of updates, or a date such as 2026-01-01, got 'yesterday'"),
        (np.datetime64("NaT"), "a date such as 2026-01-01"),
    ):
        with pytest.raises(InputError, match=message):
            result.update(data, forget=forget)
    with pytest.raises(
        InputError, match=r"interactions must be Interactions with timestamps .* got Interactions without"
    ):
        result.update(replace(data, timestamps=None), forget="2026-01-01")
    with pytest.raises(InputError, match="timestamps must be seconds since 1970"):
        result.update(replace(data, timestamps=data.timestamps * 1000), forget="2026-01-01")
    with pytest.raises(InputError, match=r"with timestamps .* got tuple"):
        result.update(([1], [2]), forget="2026-01-01")
    graph = random_graph(60, 40, 500, seed=7)
    with pytest.raises(InputError, match="forget must be of a result with raw ids, got users by index"):
        fitted(graph).update(graph, forget=1)
