"""Raw ids: sorted, found again, decoded, and carried by plain arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from tiers import examples

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)
STRINGS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=30)


@examples(60)
@given(st.one_of(INTEGERS, STRINGS))
def test_every_id_is_found_and_decoded_again(raw: list) -> None:
    vocabulary = Vocabulary(raw)
    expected = sorted(set(raw))
    assert len(vocabulary) == len(expected)
    assert vocabulary.decode(np.arange(len(expected))).tolist() == expected
    indices = vocabulary.lookup(raw)
    assert indices.dtype == np.int32
    assert indices.tolist() == [expected.index(value) for value in raw]
    assert [vocabulary.lookup(value) for value in raw] == indices.tolist()


@examples(60)
@given(st.one_of(INTEGERS, STRINGS))
def test_arrays_and_pickle_carry_a_vocabulary(raw: list) -> None:
    vocabulary = Vocabulary(raw)
    arrays = vocabulary.to_arrays()
    assert all(array.flags.c_contiguous for array in arrays.values())
    assert Vocabulary.from_arrays(arrays) == vocabulary
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    assert vocabulary.nbytes == sum(array.nbytes for array in arrays.values())


def test_arrays_of_strings_are_utf8_bytes_and_offsets() -> None:
    arrays = Vocabulary(["ü", "", "b"]).to_arrays()
    assert bytes(arrays["utf8"]).decode() == "bü"
    assert arrays["offsets"].tolist() == [0, 0, 1, 3]
    assert arrays["offsets"].dtype == np.int64


def test_scalars_come_back_as_plain_python_values() -> None:
    assert Vocabulary(["b", "a"]).decode(1) == "b"
    number = Vocabulary(np.array([30, 10])).decode(np.int64(1))
    assert number == 30
    assert type(number) is int


def test_equality_looks_at_ids_and_kind() -> None:
    assert Vocabulary([1, 2]) == Vocabulary([2, 1, 2])
    assert Vocabulary([1, 2]) != Vocabulary([1, 3])
    assert Vocabulary([1]) != Vocabulary(["1"])
    assert Vocabulary([1]) != 1
    assert hash(Vocabulary([1, 2])) == hash(Vocabulary([2, 1]))
    assert repr(Vocabulary(["a"])) == "Vocabulary(1 strings)"


def test_the_ids_of_a_vocabulary_cannot_be_changed() -> None:
    source = np.array([1, 2])
    vocabulary = Vocabulary.from_sorted_integers(source)
    source[0] = 9
    assert vocabulary.decode(0) == 1
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.to_arrays()["integers"][0] = 5


def test_columns_of_other_libraries_are_taken() -> None:
    assert Vocabulary(pd.Series([3, 1])).lookup(pd.Series([3, 3])).tolist() == [1, 1]
    assert Vocabulary(pd.Series(["b", "a"])).lookup(pd.Series(["b"])).tolist() == [1]
    assert Vocabulary([7, 9]).lookup(torch.tensor([9, 7])).tolist() == [1, 0]


def test_numpy_strings_and_small_integers_are_taken() -> None:
    assert Vocabulary(np.array(["b", "a"])).decode([0, 1]).tolist() == ["a", "b"]
    assert Vocabulary(np.array([3, 1], dtype=np.uint8)).lookup(np.array([3], dtype=np.int16)).tolist() == [1]


@pytest.mark.parametrize(
    ("vocabulary", "raw", "message"),
    [
        (Vocabulary([1, 5]), 4, "unknown raw ids: 4"),
        (Vocabulary([1, 5]), [1, 9, 8], "unknown raw ids: 9, 8"),
        (Vocabulary(["a"]), "b", "unknown raw ids: 'b'"),
        (Vocabulary(["a"]), [f"x{k}" for k in range(8)], "'x4' and 3 more"),
        (Vocabulary([]), [3], "unknown raw ids: 3"),
        (Vocabulary([1, 5]), "1", "are integers, got '1'"),
        (Vocabulary(["a"]), [1], "are strings, got 1"),
        (Vocabulary([1]), [1.0], "all integers or all strings, got 1.0"),
        (Vocabulary([1]), np.array([1.0]), "integers or strings, got float64"),
        (Vocabulary([1]), [True], "got True"),
        (Vocabulary([1]), None, "got None"),
        (Vocabulary([1]), [[1, 2]], "one-dimensional"),
    ],
)
def test_lookup_names_what_it_does_not_know(vocabulary: Vocabulary, raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vocabulary.lookup(raw)


@pytest.mark.parametrize("vocabulary", [Vocabulary([1, 5]), Vocabulary(["a", "b"])])
@pytest.mark.parametrize(("indices", "message"), [(2, "from 0 to 1, got 2"), ([0, -1], "got -1"), ([0.5], "float64")])
def test_decode_refuses_indices_outside(vocabulary: Vocabulary, indices: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vocabulary.decode(indices)


def test_no_ids_are_looked_up_and_decoded_to_nothing() -> None:
    for vocabulary in (Vocabulary([1]), Vocabulary(["a"]), Vocabulary([])):
        assert vocabulary.lookup([]).dtype == np.int32
        assert len(vocabulary.decode([])) == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, "a"], "mixture"),
        ([1, None], "None"),
        ([2**63], "64-bit"),
        (np.array([2**63], dtype=np.uint64), "64-bit"),
        (["\ud800"], "UTF-8"),
        (np.array([1j]), "complex128"),
        (np.zeros((2, 2), dtype=int), "shape"),
    ],
)
def test_raw_ids_are_integers_or_strings(ids: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary(ids)  # type: ignore[arg-type]


def text_arrays(utf8: bytes, offsets: list[int]) -> dict[str, np.ndarray]:
    return {"utf8": np.frombuffer(utf8, dtype=np.uint8), "offsets": np.array(offsets, dtype=np.int64)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "got none"),
        ({"offsets": np.zeros(1, dtype=np.int64)}, "got offsets"),
        ({"integers": np.array([1.0])}, "int64 array, got float64"),
        ({"integers": np.array([[1]])}, "shape"),
        ({"integers": [1]}, "got list"),
        ({"integers": np.array([2, 1])}, "strictly increasing"),
        ({"integers": np.array([1, 1])}, "strictly increasing"),
        (text_arrays(b"ab", []), "offsets"),
        (text_arrays(b"ab", [0, 1]), "offsets"),
        (text_arrays(b"ab", [0, 2, 1, 2]), "offsets"),
        (text_arrays(b"\xff", [0, 1]), "UTF-8"),
        (text_arrays(b"ba", [0, 1, 2]), "strictly increasing"),
        (text_arrays(b"aa", [0, 1, 2]), "strictly increasing"),
    ],
)
def test_foreign_arrays_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary.from_arrays(arrays)


@pytest.mark.parametrize(("mine", "theirs"), [([5, 1], [3, 5]), (["b", "é"], ["a", "b"]), ([], ["a"]), ([2], [])])
def test_a_union_has_the_ids_of_both_and_tells_where_they_are(mine, theirs):
    own, other = Vocabulary(mine), Vocabulary(theirs)
    both = own.union(other)
    assert both == Vocabulary({*mine, *theirs})
    assert both.decode(own.positions_in(both)).tolist() == sorted(mine)
    assert both.decode(other.positions_in(both)).tolist() == sorted(theirs)


def test_integers_and_strings_have_no_union():
    with pytest.raises(InputError, match="are integers, got a vocabulary of strings"):
        Vocabulary([1]).union(Vocabulary(["1"]))
