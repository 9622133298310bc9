"""Numbering raw ids: columns that come in pieces count as one, whatever the pieces."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data import factorizing
from baco_gpu.data.factorizing import contiguous_codes, factorize

DENSE = st.lists(st.integers(-5, 30), max_size=6)
SPREAD = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6)
WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=6)


@given(pieces=st.one_of(*(st.lists(kind, min_size=1, max_size=4) for kind in (DENSE, SPREAD))))
def test_pieces_of_integers_are_numbered_as_one_column(pieces: list[list[int]]) -> None:
    raw = [value for piece in pieces for value in piece]
    ((codes, vocabulary),) = factorize(pa.chunked_array(pieces, pa.int64()))
    assert vocabulary.decode(codes).tolist() == raw
    assert vocabulary.decode(np.arange(len(vocabulary))).tolist() == sorted(set(raw))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(pieces=st.lists(WORDS, min_size=1, max_size=4))
def test_pieces_of_strings_are_numbered_as_one_column(kind: pa.DataType, pieces: list[list[str]]) -> None:
    raw = [value for piece in pieces for value in piece]
    ((codes, vocabulary),) = factorize(pa.chunked_array(pieces, kind))
    assert vocabulary.decode(codes).tolist() == raw
    assert vocabulary.decode(np.arange(len(vocabulary))).tolist() == sorted(set(raw))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(pieces=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)), min_size=1))
def test_long_columns_are_numbered_in_parts_as_if_whole(kind: pa.DataType, pieces: list[list[str]]) -> None:
    column = pa.chunked_array(pieces, kind)
    (whole,) = factorize(column)
    with mock.patch.multiple(factorizing, _LONG=1, _SAMPLE=5, _MOSTLY_DISTINCT=0):
        divided, again = factorize(column, column)
    assert divided[0].dtype == np.int32
    for codes, vocabulary in (divided, again):
        assert codes.tolist() == whole[0].tolist()
        assert vocabulary == whole[1]


@pytest.mark.parametrize(("distinct", "parts"), [(100, 4), (10, 1)])
def test_the_ids_of_a_long_column_are_divided_unless_they_are_few(
    monkeypatch: pytest.MonkeyPatch, distinct: int, parts: int
) -> None:
    monkeypatch.setattr(factorizing, "_LONG", 100)
    ranks = mock.Mock(wraps=factorizing._ranks)
    monkeypatch.setattr(factorizing, "_ranks", ranks)
    words = [f"{number % distinct:02}" for number in range(100)]
    ((codes, vocabulary),) = factorize(pa.chunked_array([words[:30], [], words[30:]], pa.string()))
    assert ranks.call_count == parts
    assert vocabulary.decode(codes).tolist() == words


def test_strings_beyond_32_bit_offsets_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorizing, "_LARGEST_STRING_ARRAY", 4)
    ((codes, vocabulary),) = factorize(pa.chunked_array([["b", "a"], ["b", "c"]], pa.string()))
    assert vocabulary.decode(codes).tolist() == ["b", "a", "b", "c"]


def test_no_ids_are_contiguous() -> None:
    codes, size, vocabulary = contiguous_codes(np.empty(0, dtype=np.int64))
    assert (len(codes), size, vocabulary) == (0, 0, None)
