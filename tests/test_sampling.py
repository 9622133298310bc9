"""The sampler's promises: every interaction once an epoch, negatives unseen and uniform, the same for the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.training import BprSampler, sampling


def interactions(pairs, num_users, num_items):
    array = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    return Interactions(np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1]), num_users, num_items)


def epoch(sampler):
    return [torch.cat(parts).tolist() for parts in zip(*sampler.epoch(), strict=True)]


graphs = st.integers(1, 6).flatmap(
    lambda items: st.tuples(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, items - 1)), min_size=1, max_size=40), st.just(items)
    )
)


@given(graphs, st.integers(1, 9), st.integers(0, 3))
def test_every_interaction_once_and_negatives_unseen(graph, batch_size, seed):
    pairs, items = graph
    seen = {user: {i for u, i in pairs if u == user} for user in range(8)}
    usable = sorted((user, item) for user, item in pairs if len(seen[user]) < items)
    train = interactions(pairs, 8, items)
    if not usable:
        with pytest.raises(InputError, match="who has not seen every item"):
            BprSampler(train, batch_size, seed=seed)
        return
    sampler = BprSampler(train, batch_size, seed=seed)
    batches = list(sampler.epoch())
    assert sampler.num_samples == len(usable)
    assert sampler.num_batches == len(batches)
    assert all(len(users) == batch_size for users, _, _ in batches[:-1])
    users, positives, negatives = (torch.cat(parts).tolist() for parts in zip(*batches, strict=True))
    assert sorted(zip(users, positives, strict=True)) == usable
    assert all(0 <= item < items and item not in seen[user] for user, item in zip(users, negatives, strict=True))


def test_negatives_are_uniform_over_the_unseen_items():
    # User 1 has seen 0, 1, 5, 9 of ten; user 0 and 2 would show items of a neighbour leaking in.
    train = interactions([(1, 0), (1, 1), (1, 5), (1, 9), (0, 2), (2, 3)], 3, 10)
    sampler = BprSampler(train, 4)
    draws = 60_000
    counts = np.bincount(sampler.negatives(torch.ones(draws, dtype=torch.int64)).numpy(), minlength=10)
    unseen = [2, 3, 4, 6, 7, 8]
    assert counts.sum() == counts[unseen].sum() == draws
    expected = draws / len(unseen)
    chi_square = float(((counts[unseen] - expected) ** 2 / expected).sum())
    assert chi_square < 25.7  # five degrees of freedom, one time in ten thousand


def test_one_unseen_item_is_always_found():
    train = interactions([(0, item) for item in range(1000) if item != 617] + [(1, 0)], 2, 1000)
    sampler = BprSampler(train, 64)
    users, _, negatives = epoch(sampler)
    assert {item for user, item in zip(users, negatives, strict=True) if user == 0} == {617}


def test_same_seed_same_batches_and_every_epoch_another_order():
    train = interactions([(user, item) for user in range(20) for item in range(user % 7 + 1)], 20, 10)
    first, again, other = (BprSampler(train, 8, seed=seed) for seed in (5, 5, 6))
    epochs = [epoch(first), epoch(first)]
    assert epochs == [epoch(again), epoch(again)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != epoch(other)


def test_chunks_change_nothing_but_memory(monkeypatch):
    train = interactions([(user, item) for user in range(20) for item in range(4)], 20, 10)
    monkeypatch.setattr(sampling, "_CHUNK", 16)
    sampler = BprSampler(train, 6)
    batches = list(sampler.epoch())
    assert [len(users) for users, _, _ in batches] == [6] * 13 + [2]
    users, positives, _ = (torch.cat(parts).tolist() for parts in zip(*batches, strict=True))
    assert sorted(zip(users, positives, strict=True)) == [(user, item) for user in range(20) for item in range(4)]


def test_ids_beyond_32_bits_in_the_product():
    big = 2**31 - 1
    train = interactions([(big - 1, big - 1), (big - 1, 0)], big, big)
    with pytest.raises(InputError, match="below 2\\^63"):
        BprSampler(interactions([(0, 0)], 2**33, 2**31), 2)
    # The offsets of two thousand million users would take 16 GB; the arithmetic is the same with few of them.
    few = Interactions(np.array([2, 2]), train.items, 3, big)
    users, _, negatives = epoch(BprSampler(few, 2))
    assert users == [2, 2]
    assert all(0 < item < big - 1 for item in negatives)


@pytest.mark.parametrize(("batch_size", "seed"), [(0, 0), (1.5, 0), (4, -1)])
def test_bad_arguments_are_refused(batch_size, seed):
    with pytest.raises(InputError, match="must be an integer"):
        BprSampler(interactions([(0, 0)], 1, 2), batch_size, seed=seed)


def test_nothing_to_sample_is_refused():
    with pytest.raises(InputError, match="no training interaction"):
        BprSampler(interactions([], 3, 4), 2)
