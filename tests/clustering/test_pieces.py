"""Contraction in pieces: runs of pairs that add up, spill to the host, and merge range by range."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.clustering.backends.pieces import PairSums, Room, pieces_of, ranges
from baco_gpu.cuda.pinned import HostArray


class Host:
    """Keeps what it is asked for: an array of NumPy under both names, each a view of its own."""

    def __init__(self):
        self.arrays = []

    def __call__(self, size, dtype):
        array = np.empty(size, dtype)
        self.arrays.append(HostArray(array, array.view()))
        return self.arrays[-1]


keys_in_order = st.lists(st.integers(0, 60), max_size=30, unique=True).map(sorted).map(lambda keys: np.array(keys, int))


class TestRanges:
    @given(st.lists(keys_in_order, min_size=1, max_size=5), st.integers(1, 20))
    def test_cover_everything_in_order_and_within_bounds(self, keys, most):
        found = list(ranges(keys, most))
        seen = [np.concatenate([array[part] for array, part in zip(keys, slices, strict=True)]) for slices in found]
        for values in seen:
            assert len(values) > 0
            assert len(values) <= max(most, len(keys))
        for before, after in pairwise(seen):
            assert before.max() < after.min()  # so that equal keys are in one range
        assert sorted(np.concatenate([np.empty(0), *seen])) == sorted(np.concatenate(keys))


def summed(pairs, weights):
    kinds, place = np.unique(pairs, return_inverse=True)
    sums = np.zeros(len(kinds), np.int64)
    np.add.at(sums, place, 1 if weights is None else weights)
    return kinds, sums


def dictionary_of(found, num_clusters):
    """{(cluster, neighbor): weight}, every one of them once."""
    result = {}
    for cluster in range(num_clusters):
        for place in range(found.begins[cluster], found.begins[cluster] + found.counts[cluster]):
            pair = (cluster, int(found.neighbors[place]))
            assert pair not in result
            result[pair] = int(found.weights[place])
    return result


class TestPairSums:
    @given(
        st.integers(2, 12).flatmap(
            lambda size: st.tuples(
                st.just(size),
                st.lists(
                    st.lists(
                        st.tuples(st.integers(0, size - 1), st.integers(0, size - 1), st.integers(1, 9)).filter(
                            lambda edge: edge[0] < edge[1]
                        ),
                        max_size=6,
                    ),
                    max_size=9,
                ),
            )
        ),
        st.integers(6, 14),
        st.booleans(),
    )
    def test_rows_are_the_sums_however_little_room_there_is(self, case, edges, weighted):
        size, pieces = case
        sums = PairSums(np, summed, size, Room(edges, Host()))
        expected = {}
        for piece in pieces:
            first, second, weights = (np.array([edge[k] for edge in piece], np.int64) for k in range(3))
            sums.add(first * size + second, weights if weighted else None)
            for a, b, weight in piece:
                for pair in ((a, b), (b, a)):
                    expected[pair] = expected.get(pair, 0) + (weight if weighted else 1)
        found = sums.rows(np.int32)
        assert dictionary_of(found, size) == expected
        assert found.neighbors.dtype == np.int32
        assert found.counts.sum() == len(expected)

    @pytest.mark.parametrize(
        ("edges", "step", "runs", "on_host"), [(100, 15, 0, False), (40, 15, 4, True), (59, 0, 4, False)]
    )
    def test_what_fits_is_on_the_device_and_what_does_not_on_the_host(self, edges, step, runs, on_host):
        """Four pieces of 30 pairs, each `step` on from the one before."""
        host = Host()
        sums = PairSums(np, summed, 1000, Room(edges, host))
        for piece in range(4):
            sums.add(7 * 1000 + step * piece + np.arange(8, 38), None)
        found = sums.rows(np.int64)
        assert found.counts[7] == 30 + 3 * step
        assert found.weights.sum() == 2 * 4 * 30
        arrays = [kept.device for kept in host.arrays]
        assert len(arrays) == (2 * runs + 2 if runs else 0)
        assert any(np.shares_memory(found.neighbors, array) for array in arrays) == on_host


class TestPiecesOfRows:
    def test_rows_are_cut_where_pieces_end(self):
        offsets = np.array([0, 3, 3, 9, 10])
        found = list(pieces_of(np, (offsets[:-1], offsets[1:]), 10, 4))
        assert [places for places, _, _ in found] == [slice(0, 4), slice(4, 8), slice(8, 10)]
        assert [here for _, here, _ in found] == [slice(0, 3), slice(2, 3), slice(2, 4)]
        assert [[begins.tolist(), ends.tolist()] for _, _, (begins, ends) in found] == [
            [[0, 3, 3], [3, 3, 4]],
            [[0], [4]],
            [[0, 1], [1, 2]],
        ]
        assert not list(pieces_of(np, (offsets[:0], offsets[:0]), 0, 4))
