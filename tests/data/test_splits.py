"""Random splits: exact sizes, a partition, and the same for the same seed everywhere."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import merge_repeated, random_order, random_split
from baco_gpu.errors import InputError
from tiers import examples


def numbered(count: int) -> Interactions:
    """`count` interactions of one user each, weighted by their position."""
    ids = np.arange(count, dtype=np.int32)
    return Interactions(ids, ids[::-1].copy(), count, count, weights=ids.astype(np.float64))


@examples(80)
@given(st.integers(0, 200), st.integers(0, 10), st.integers(0, 10), st.integers(0, 2**64 - 1))
def test_parts_are_a_partition_of_exact_sizes(count: int, validation: int, test: int, seed: int) -> None:
    fractions = ((20 - validation - test) / 20, validation / 20, test / 20)
    split = random_split(numbered(count), fractions, seed)
    parts = (split.train, split.validation, split.test)
    assert sorted(chain.from_iterable(part.users.tolist() for part in parts)) == list(range(count))
    expected_validation = int(np.floor(fractions[1] * count + 0.5))
    assert len(split.validation) == expected_validation
    assert len(split.test) == min(int(np.floor(fractions[2] * count + 0.5)), count - expected_validation)
    for part in parts:
        assert (np.diff(part.users) > 0).all()  # the order of the input
        assert part.weights is not None
        assert part.weights.tolist() == part.users.tolist()
        assert (part.num_users, part.num_items) == (count, count)


def test_a_seed_names_one_split() -> None:
    first, again, other = (random_split(numbered(100), seed=seed) for seed in (5, 5, 6))
    assert first.test.users.tolist() == again.test.users.tolist()
    assert first.test.users.tolist() != other.test.users.tolist()


def test_the_order_is_pinned_across_platforms_and_releases() -> None:
    assert random_order(8, 0).tolist() == [3, 5, 7, 4, 1, 2, 6, 0]
    assert random_order(8, 2**64 - 1).tolist() == [7, 1, 3, 0, 4, 5, 2, 6]


@given(st.integers(0, 2**64 - 1))
def test_the_order_is_that_of_splitmix64_hashes(seed: int) -> None:
    def mixed(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    start = mixed(seed) + 0x9E3779B97F4A7C15
    expected = sorted(range(20), key=lambda position: mixed((start + position) % 2**64))
    assert random_order(20, seed).tolist() == expected


def test_the_order_is_even() -> None:
    """Every position is first about equally often (chi-square with 9 degrees of freedom, far in the tail)."""
    firsts = np.bincount([random_order(10, seed)[0] for seed in range(2000)], minlength=10)
    assert ((firsts - 200) ** 2 / 200).sum() < 30


def test_repeated_pairs_merge_into_the_first() -> None:
    twice = Interactions(np.array([1, 0, 1, 0]), np.array([0, 1, 0, 0]), 2, 2, weights=np.array([1.0, 2.0, 4.0, 8.0]))
    merged = merge_repeated(twice)
    assert merged.users.tolist() == [1, 0, 0]
    assert merged.items.tolist() == [0, 1, 0]
    assert merged.weights is not None
    assert merged.weights.tolist() == [5.0, 2.0, 8.0]
    plain = merge_repeated(Interactions(twice.users, twice.items, 2, 2))
    assert plain.weights is None
    assert len(plain) == 3
    assert merge_repeated(plain) is plain


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1), "three numbers"),
        ("abc", "three numbers"),
        (0.8, "three numbers"),
        ((0.8, 0.1, 0.2), "sum to 1, got 1.1"),
        ((1.2, -0.1, -0.1), "at most 1, got 1.2"),
        ((float("nan"), 0.5, 0.5), "finite"),
        ((0.8, "0.1", 0.1), "got '0.1'"),
    ],
)
def test_fractions_are_three_shares(fractions: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_split(numbered(3), fractions)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_seeds_are_64_bit_integers(seed: object) -> None:
    with pytest.raises(InputError, match="seed must be an integer"):
        random_split(numbered(3), seed=seed)  # type: ignore[arg-type]
