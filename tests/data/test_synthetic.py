"""Planted co-clusters: sizes met exactly, clusters kept, degrees skewed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data import synthetic
from baco_gpu.data.synthetic import planted_clicks, planted_coclusters
from baco_gpu.errors import InputError
from tiers import examples


@examples(40)
@given(st.data())
def test_exactly_so_many_distinct_pairs_come_out(data: st.DataObject) -> None:
    num_users, num_items = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    num_clusters = data.draw(st.integers(1, min(num_users, num_items)))
    num_edges = data.draw(st.integers(0, num_users * num_items))
    seed = data.draw(st.integers(0, 2**64 - 1))
    interactions, user_clusters, item_clusters = planted_coclusters(
        num_users, num_items, num_edges, num_clusters, noise=0.3, seed=seed
    )
    assert (interactions.num_users, interactions.num_items) == (num_users, num_items)
    assert interactions.users.dtype == interactions.items.dtype == np.int32
    pairs = list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    assert len(pairs) == num_edges
    assert all(0 <= user < num_users and 0 <= item < num_items for user, item in pairs)
    for clusters, size in ((user_clusters, num_users), (item_clusters, num_items)):
        assert clusters.dtype == np.int32
        counts = np.bincount(clusters, minlength=num_clusters)
        assert len(counts) == num_clusters
        assert counts.sum() == size
        assert counts.max() - counts.min() <= 1


def test_without_noise_no_pair_leaves_its_cluster() -> None:
    interactions, users, items = planted_coclusters(60, 40, 600, 4, noise=0.0, seed=1)  # every possible pair
    assert (users[interactions.users] == items[interactions.items]).all()
    with pytest.raises(InputError, match="num_edges must be at most 600, the number of possible pairs, got 601"):
        planted_coclusters(60, 40, 601, 4, noise=0.0, seed=1)


def test_noise_is_the_share_of_pairs_with_a_random_cluster() -> None:
    interactions, users, items = planted_coclusters(20_000, 10_000, 100_000, 10, noise=0.4, seed=2)
    inside = (users[interactions.users] == items[interactions.items]).mean()
    assert abs(inside - (0.6 + 0.4 / 10)) < 0.03


def test_degrees_follow_the_power_law() -> None:
    """With density d ** -exponent the share of nodes of at least twice the degree falls by 2 ** (exponent - 1)."""
    interactions, _, _ = planted_coclusters(50_000, 50_000, 1_000_000, 5, noise=0.5, exponent=3.0, seed=3)
    for ids in (interactions.users, interactions.items):
        degrees = np.bincount(ids, minlength=50_000)
        shares = [(degrees >= bound).mean() for bound in (40, 80, 160)]
        assert shares[0] / shares[1] == pytest.approx(4, rel=0.2)
        assert shares[1] / shares[2] == pytest.approx(4, rel=0.3)


def test_a_seed_names_one_graph_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (planted_coclusters(100, 80, 900, 3, seed=seed)[0] for seed in (7, 7, 8))
    assert first.users.tolist() == again.users.tolist()
    assert first.items.tolist() == again.items.tolist()
    assert first.items.tolist() != other.items.tolist()
    monkeypatch.setattr(synthetic, "_CHUNK", 1000)
    assert len(planted_coclusters(100, 80, 900, 3, seed=7)[0]) == 900


def test_pairs_that_keep_repeating_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_MOST_ROUNDS", 1)
    with pytest.raises(InputError, match="distinct pairs came out of 1 rounds, got 250000"):
        planted_coclusters(500, 500, 250_000, 2, noise=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_users": 0}, "num_users must be an integer from 1"),
        ({"num_items": 2.0}, "num_items must be an integer"),
        ({"num_edges": -1}, "num_edges must be an integer of at least 0|num_edges must be an integer at least 0"),
        ({"num_edges": 101}, "num_edges must be at most 100"),
        ({"num_clusters": 11}, "num_clusters must be an integer from 1 to 10, got 11"),
        ({"noise": 1.1}, "noise must be a finite number"),
        ({"exponent": 2.0}, "exponent must be a finite number above 2"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_arguments_out_of_range_are_refused(change: dict, message: str) -> None:
    arguments = {"num_users": 10, "num_items": 10, "num_edges": 20, "num_clusters": 2, **change}
    with pytest.raises(InputError, match=message):
        planted_coclusters(**arguments)


def test_tied_columns_of_a_click_log_have_ids_of_the_events_cluster_and_others_any() -> None:
    log = planted_clicks(20_000, (300, 100, 50), 10, tied=2, noise=0.2, seed=0)
    assert (log.ids.shape, log.ids.dtype, log.clicked.shape) == ((20_000, 3), np.int32, (20_000,))
    assert (log.ids.min(axis=0) >= 0).all()
    assert (log.ids.max(axis=0) < (300, 100, 50)).all()
    of = [clusters[ids] for clusters, ids in zip(log.clusters, log.ids.T, strict=True)]
    assert (of[0] == of[1]).mean() == pytest.approx(0.8**2 + (1 - 0.8**2) / 10, abs=0.02)
    assert (of[0] == of[2]).mean() == pytest.approx(0.1, abs=0.02)


def test_clicks_depend_on_ids_and_their_clusters() -> None:
    log = planted_clicks(50_000, (40, 40), 4, tied=2, spread=0.0, seed=1)
    rates = [log.clicked[log.clusters[0][log.ids[:, 0]] == cluster].mean() for cluster in range(4)]
    assert max(rates) - min(rates) > 0.1
    assert 0.1 < log.clicked.mean() < 0.5
    again = planted_clicks(50_000, (40, 40), 4, tied=2, spread=0.0, seed=1)
    assert (log.ids == again.ids).all()
    assert (log.clicked == again.clicked).all()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sizes": (3, 0)}, r"sizes\[1\] must be an integer from 1"),
        ({"tied": 3}, "tied must be an integer from 0 to 2, got 3"),
        ({"num_events": -1}, "num_events must be an integer from 0"),
        ({"spread": 1.5}, "spread must be a finite number of at least 0 and at most 1"),
    ],
)
def test_a_click_log_that_cannot_be_is_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        planted_clicks(**{"num_events": 5, "sizes": (3, 3), "num_clusters": 2, "tied": 1, **changed})  # type: ignore
