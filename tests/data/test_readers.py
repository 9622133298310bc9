"""Files of every format: what was written comes back, and what is wrong is named."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baco_gpu.data import adjacency_lists
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.data.sources import text_beginnings
from baco_gpu.errors import InputError
from tiers import examples

RELAXED = settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WORDS = st.text(st.characters(categories=["L", "N", "Zs"], exclude_characters="\x85\u2028"), min_size=1, max_size=6)
# A column of words begins with two that nobody takes for numbers, so that its first row is no header.
WORD_COLUMN = st.lists(WORDS, min_size=1, max_size=20).map(lambda column: ["word", "other", *column])
INTEGER_COLUMN = st.lists(st.integers(0, 10**18), min_size=2, max_size=20)
COLUMN = st.one_of(WORD_COLUMN, INTEGER_COLUMN)


def decoded(interactions: Interactions) -> tuple[list, list]:
    """The raw ids of all interactions."""
    users, items = interactions.user_vocabulary, interactions.item_vocabulary
    raw_users = interactions.users if users is None else users.decode(interactions.users)
    raw_items = interactions.items if items is None else items.decode(interactions.items)
    return raw_users.tolist(), raw_items.tolist()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.filterwarnings("ignore:.*no header was found")
@RELAXED
@given(users=COLUMN, items=COLUMN, header=st.booleans())
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_delimited_text_comes_back(
    tmp_path: Path, users: list, items: list, header: bool, suffix: str, delimiter: str
) -> None:
    count = min(len(users), len(items))
    users, items = users[:count], items[:count]
    quote = '"' if suffix == "csv" else ""
    lines = [f"{quote}{user}{quote}{delimiter}{item}" for user, item in zip(users, items, strict=True)]
    path = write(tmp_path / f"x.{suffix}", "\n".join([delimiter.join(["user_id", "item_id"])] * header + lines))
    interactions = load_interactions(path)
    assert decoded(interactions) == (users, items)
    assert interactions.users.dtype == interactions.items.dtype == np.int32
    assert interactions.num_users == len(set(users))
    assert interactions.num_items == len(set(items))
    assert interactions.weights is None


@RELAXED
@given(users=COLUMN, items=COLUMN, dictionary=st.booleans())
def test_parquet_comes_back(tmp_path: Path, users: list, items: list, dictionary: bool) -> None:
    count = min(len(users), len(items))
    columns = {name: pa.array(column[:count]) for name, column in (("u", users), ("i", items))}
    if dictionary:
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    pq.write_table(pa.table({**columns, "stars": np.arange(count)}), tmp_path / "x.parquet", row_group_size=3)
    interactions = load_interactions(tmp_path / "x.parquet", weight_column="stars")
    assert decoded(interactions) == (users[:count], items[:count])
    assert interactions.weights is not None
    assert interactions.weights.tolist() == list(range(count))
    assert interactions.weights.dtype == np.float64


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.int8(), pa.uint32()])
def test_parquet_columns_of_every_kind_of_id(tmp_path: Path, kind: pa.DataType) -> None:
    users = [3, 1, 3] if pa.types.is_integer(kind) else ["ü", "a", "ü"]
    pq.write_table(pa.table({"u": pa.array(users, kind), "i": [5, 6, 7]}), tmp_path / "x.pq")
    assert decoded(load_interactions(tmp_path / "x.pq")) == (users, [5, 6, 7])


@RELAXED
@given(lists=st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=5), min_size=1))
def test_lightgcn_text_comes_back(tmp_path: Path, lists: dict[int, list[int]]) -> None:
    lines = [" ".join(map(str, [user, *items])) for user, items in lists.items()]
    path = write(tmp_path / "x.txt", "\n".join(lines))
    pairs = [(user, item) for user, items in lists.items() for item in items]
    if not pairs:
        with pytest.raises(InputError, match="got no interaction"):
            load_interactions(path)
        return
    interactions = load_interactions(path)
    assert list(zip(*decoded(interactions), strict=True)) == pairs
    assert interactions.num_users == len(lists)
    contiguous = sorted(lists) == list(range(len(lists)))
    assert (interactions.user_vocabulary is None) == contiguous


def test_lightgcn_text_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjacency_lists, "_BLOCK_BYTES", 7)
    seen: list[tuple[str, int, int, str]] = []
    path = write(tmp_path / "x.txt", "0 1 2\r\n\n1\t0  3 \n2\n3 1")
    interactions = load_interactions(path, progress=lambda *step: seen.append(step))
    assert decoded(interactions) == ([0, 0, 1, 1, 3], [1, 2, 0, 3, 1])
    assert interactions.num_users == 4  # user 2 has a line of its own, and no items
    assert seen[-1] == ("read", path.stat().st_size, path.stat().st_size, "x.txt")
    assert len(seen) > 1
    write(path, " " * 20 + "\n0 1\n")
    assert decoded(load_interactions(path)) == ([0], [1])
    write(path, "0 1 2\n1 0\n2 1\n3 x 1\n")
    with pytest.raises(InputError, match=r"x\.txt: expected non-negative integers .* line 4 has 'x'"):
        load_interactions(path)


def test_ids_of_lightgcn_text_with_gaps_get_a_vocabulary(tmp_path: Path) -> None:
    interactions = load_interactions(write(tmp_path / "x.txt", "7 100000000000000000 3\n2 3\n"))
    assert decoded(interactions) == ([7, 7, 2], [100000000000000000, 3, 3])
    assert (interactions.num_users, interactions.num_items) == (2, 2)
    assert interactions.users.tolist() == [1, 1, 0]


@pytest.fixture
def split_folder(tmp_path: Path) -> Path:
    lines = [f"{user} " + " ".join(str((user + step) % 30) for step in range(6)) for user in range(30)]
    write(tmp_path / "train.txt", "\n".join(lines))
    write(tmp_path / "test.txt", "\n".join(f"{user} {(user + 9) % 30}" for user in range(28)) + "\n28\n29\n")
    return tmp_path


def test_a_folder_gives_its_split_and_a_validation_part_out_of_train(split_folder: Path) -> None:
    split = load_split(split_folder, seed=3)
    whole = load_interactions(split_folder)
    assert len(whole) == 180
    assert (len(split.train), len(split.validation), len(split.test)) == (160, 20, 28)
    both = {*zip(*decoded(split.train), strict=True), *zip(*decoded(split.validation), strict=True)}
    assert both == set(zip(*decoded(whole), strict=True))
    assert decoded(split.test)[1] == [(user + 9) % 30 for user in range(28)]
    assert (split.num_users, split.num_items) == (30, 30)
    assert load_split(split_folder, seed=4).validation.users.tolist() != split.validation.users.tolist()
    without = load_split(split_folder, fractions=(0.9, 0.0, 0.1))
    assert (len(without.train), len(without.validation)) == (180, 0)
    with pytest.raises(InputError, match="leave a part"):
        load_split(split_folder, fractions=(0.0, 0.0, 1.0))


@pytest.fixture
def npz_arrays() -> dict[str, Any]:
    pairs = np.array([[0, 0, 1], [1, 2, 0]], dtype=np.int32)
    return {"train": pairs, "val": pairs[:, :1], "test": pairs[:, :0], "num_users": 3, "num_items": 4}


def test_an_npz_split_comes_as_it_is(tmp_path: Path, npz_arrays: dict[str, Any]) -> None:
    np.savez_compressed(tmp_path / "x.npz", **npz_arrays)
    split = load_split(tmp_path / "x.npz")
    assert decoded(split.train) == ([0, 0, 1], [1, 2, 0])
    assert decoded(split.validation) == ([0], [1])
    assert len(split.test) == 0
    assert (split.num_users, split.num_items) == (3, 4)
    assert split.train.user_vocabulary is None
    assert decoded(load_interactions(tmp_path / "x.npz")) == decoded(split.train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, "expected the array 'val' in the .npz archive, found "),
        ({"train": np.zeros((3, 2), dtype=int)}, r"integers of shape \(2, n\), got int64 of shape \(3, 2\)"),
        ({"train": np.zeros(3, dtype=int)}, r"got int64 of shape \(3,\)"),
        ({"test": np.zeros((2, 1))}, "got float64"),
        ({"test": np.array([["a"], ["b"]], dtype=object)}, "cannot be read"),
        ({"val": np.array([[0], [-1]])}, "item ids from 0 to 3, got -1 at position 0"),
        ({"val": np.array([[0, 3], [0, 0]])}, "user ids from 0 to 2, got 3 at position 1"),
        ({"num_users": -3}, "num_users must be one non-negative integer, got -3"),
        ({"num_items": np.zeros(2)}, r"num_items must be one non-negative integer, got float64 of shape \(2,\)"),
    ],
)
def test_a_foreign_npz_is_refused(
    tmp_path: Path, npz_arrays: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    arrays = {name: array for name, array in {**npz_arrays, **change}.items() if array is not None}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_split(tmp_path / "x.npz")
    assert "x.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_npz_is_refused(tmp_path: Path, npz_arrays: dict[str, Any]) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **npz_arrays)
    content = path.read_bytes()
    single = tmp_path / "single.npy"
    np.save(single, np.arange(3))
    garbled = content[:60] + bytes(20) + content[80:]
    for damaged in (b"", b"not an archive", b"PK", content[: len(content) // 2], garbled, single.read_bytes()):
        with pytest.raises(InputError, match=r"x\.npz: expected an \.npz archive") as caught:
            load_interactions(write(path, damaged))
        assert "pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "users"),
    [
        ("1,2\n3,4\n", [1, 3]),  # numbers from the first line on: no header
        ("who,what\n3,4\n", [3]),  # a number under a word
        ("who,what,stars\na,b,5\n", ["a"]),
        ("user_id,item_id\na,b\n", ["a"]),  # well-known names
        ("User:token,Movie ID\na,b\n", ["a"]),
        ("user1,item1\nuser2,item2\n", ["user1", "user2"]),
        ("1,x\nx,y\n", ["1", "x"]),
        ("1,2", [1]),
        ("\ufeffuserId,movieId\n1,2\n", [1]),
        ('"a,b",c\n"d\ne",f\n', ["a,b", "d\ne"]),
        ('"user_id","item_id"\na,b\nc,d\n', ["a", "c"]),  # quotes in the header alone
        ('"user\nid","item_id"\na,1\n"c\nd",2\n', ["a", "c\nd"]),
        ("NA,1\nnull,2\n", ["NA", "null"]),  # ids as any other
        ("99999999999999999999,1\n1,2\n", ["99999999999999999999", "1"]),
        ("9999999999999999999,1\n1,2\n", ["9999999999999999999", "1"]),
        ("\n1,2\n\n3,4\n\n", [1, 3]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no header was found")
def test_headers_and_kinds_of_ids_are_told_apart(tmp_path: Path, content: str, users: list) -> None:
    assert decoded(load_interactions(write(tmp_path / "x.csv", content)))[0] == users


@pytest.mark.parametrize("late", ["a", "0x1", "1_0", "99999999999999999999"])
def test_a_column_that_turns_out_to_be_text_is_read_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr(text_beginnings, "_PEEK_BYTES", 16)
    users = ["7", "07", *map(str, range(50)), late]
    path = write(tmp_path / "x.csv", "".join(f"{user},5,{k}\n" for k, user in enumerate(users)))
    interactions = load_interactions(path)
    assert decoded(interactions) == (users, [5] * len(users))


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", "time\titem\tstars\tuser\n9\ta\t4.5\tu\n8\tb\t0\tv\n")
    interactions = load_interactions(path, user_column="user", item_column="item", weight_column="stars")
    assert decoded(interactions) == (["u", "v"], ["a", "b"])
    assert interactions.weights is not None
    assert interactions.weights.tolist() == [4.5, 0]
    assert decoded(load_interactions(path, user_column="user"))[1] == ["a", "b"]


def test_the_format_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.dat", "1\t2\n")
    assert decoded(load_interactions(path, format="tsv")) == ([1], [2])
    assert decoded(load_interactions(os.fspath(path), format="tsv")) == ([1], [2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "expected interactions, got an empty file"),
        ("x.csv", "\n\n", "expected interactions, got an empty file"),
        ("x.csv", "user,item\n", "below the header, got none"),
        ("x.tsv", "a,b\n", "expected at least two columns separated by '.t', got one: 'a,b'"),
        ("x.csv", "user\n1\n", "expected at least two columns"),
        ("x.csv", "1,2\n1,2,3\n", r"2 cells a line .*Row #2: Expected 2 columns, got 3"),
        ("x.csv", "user,item\n1,2\n3\n", r"2 cells a line .*Row #3: Expected 2 columns, got 1"),
        ("x.csv", b"a,b\n" * 20_000 + b"\xff,c\n", "expected UTF-8 text of 2 cells a line .*invalid UTF8"),
        ("x.csv", "1,2\n3,\n", "column '2' must have an id in every row, data row 2 has none"),
        ("x.csv", "user,item\n1,2\n,3\n", "column 'user' must have an id in every row, data row 2 has none"),
        ("x.csv", b"a,b\n\xff,c\n", "expected UTF-8 text, got byte 0xff at 4"),
        ("x.csv", b"PK\x03\x04" + bytes(range(256)), "x.csv: expected "),
        ("x.txt", "", "got no interaction"),
        ("x.txt", "user item\n0 1\n", "expected non-negative integers separated by spaces, line 1 has 'user'"),
        ("x.txt", "0 1\n1 -2\n", "line 2 has '-2'"),
        ("x.txt", "0 1\n1 2.5 3\n", "line 2 has '2.5'"),
        ("x.txt", "0 1\n1 1234567890123456789", "integers of up to 18 digits .* line 2 has '1234567890123456789'"),
        ("x.parquet", "", "expected a Parquet file, but it cannot be read"),
        ("x.parquet", "user,item\n1,2\n", "expected a Parquet file, but it cannot be read"),
        (
            "x.xml",
            "{}",
            "expected one of the suffixes .csv, .tsv, .*, .inter, .txt, .npz, got '.xml'",
        ),
        ("x", "1 2", "got ''"),
    ],
)
def test_wrong_files_are_named_and_explained(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as caught:
        load_interactions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_column": "buyer"}, "expected a column 'buyer', the columns are 'user', 'item', 'stars'"),
        ({"item_column": "user"}, "users and items must be different columns, got 'user' for both"),
        ({"weight_column": "price"}, "expected a column 'price'"),
        ({"weight_column": "item"}, "a column of their own, got 'item'"),
        ({"weight_column": "stars"}, "column 'stars' must hold finite non-negative numbers, data row 2 has "),
    ],
)
@pytest.mark.parametrize("weight", ["-1", "inf", "", "nan", "many"])
def test_wrong_columns_of_text_are_named(tmp_path: Path, columns: dict, message: str, weight: str) -> None:
    path = write(tmp_path / "x.csv", f"user,item,stars\n1,2,3\n1,3,{weight}\n1,4,5\n")
    with pytest.raises(InputError, match=message):
        load_interactions(path, **columns)


def test_a_name_that_is_no_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a column 'user', the columns are '1', '2'"):
        load_interactions(write(tmp_path / "x.csv", "1,2\n3,4\n"), user_column="user")


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ({"u": [1]}, {}, "expected at least two columns, got 1"),
        ({"u": [1], "i": [2]}, {"user_column": "x"}, "expected a column 'x', the columns are 'u', 'i'"),
        ({"u": [1.5], "i": [2]}, {}, "column 'u' must hold integer or string ids, got double"),
        ({"u": [True], "i": [2]}, {}, "column 'u' must hold integer or string ids, got bool"),
        ({"u": [1, 2], "i": ["a", None]}, {}, "column 'i' must have an id in every row, data row 2 has none"),
        ({"u": pa.array([], pa.int64()), "i": pa.array([], pa.int64())}, {}, "got a table without rows"),
        ({"u": pa.array([2**63], pa.uint64()), "i": [1]}, {}, "column 'u' must fit in 64-bit signed integers"),
        ({"u": [1], "i": [2], "w": ["x"]}, {"weight_column": "w"}, "column 'w' must hold numbers, got string"),
        ({"u": [1, 1], "i": [2, 3], "w": [1.0, None]}, {"weight_column": "w"}, "data row 2 has no number"),
        ({"u": [1, 1], "i": [2, 3], "w": [-2, 1]}, {"weight_column": "w"}, "data row 1 has -2"),
    ],
)
def test_wrong_parquet_tables_are_explained(tmp_path: Path, table: dict, columns: dict, message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        load_interactions(tmp_path / "x.parquet", **columns)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"u": np.arange(1000), "i": np.arange(1000)}), path, compression="none")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-3], content[:4] + bytes(4000) + content[4004:]):
        with pytest.raises(InputError, match="expected a Parquet file, but it cannot be read"):
            load_interactions(write(path, damaged))


def test_missing_paths_and_wrong_options_are_refused(tmp_path: Path, split_folder: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: expected a file .* there is none .*'movielens-100k'"):
        load_interactions(tmp_path / "nowhere.csv")
    for load in (load_interactions, load_split):
        with pytest.raises(InputError, match="path must be a string, a path or a data frame, got int"):
            load(3)
    with pytest.raises(InputError, match="there is none"):
        load_split(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match=r"format must be one of 'csv', .* got 'xml'"):
        load_interactions(tmp_path / "nowhere.xml", format="xml")
    with pytest.raises(InputError, match="expected an npz file, got a folder"):
        load_interactions(split_folder, format="npz")
    with pytest.raises(InputError, match="user_column applies to data without a split, and this comes with one"):
        load_split(split_folder, user_column="user")
    with pytest.raises(
        InputError, match="weight_column applies to tables, and this is lightgcn, got weight_column='w'"
    ):
        load_interactions(split_folder / "test.txt", weight_column="w")
    (split_folder / "train.txt").unlink()
    with pytest.raises(InputError, match=r"expected a folder with train\.txt and test\.txt, and train\.txt is missing"):
        load_interactions(split_folder)


def test_a_table_is_split_at_random_with_repeated_pairs_merged(tmp_path: Path) -> None:
    pairs = [(user, item) for user in range(10) for item in range(5)] * 2
    path = write(tmp_path / "x.csv", "".join(f"{user},{item}\n" for user, item in pairs))
    assert len(load_interactions(path)) == 100
    split = load_split(path, fractions=(0.5, 0.25, 0.25), seed=1)
    parts = [set(zip(*decoded(part), strict=True)) for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [24, 13, 13]
    assert set.union(*parts) == set(pairs)
    with pytest.raises(InputError, match="fractions must sum to 1"):
        load_split(path, fractions=(0.5, 0.5, 0.5))


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, str]] = []
    load_interactions(write(tmp_path / "x.csv", "1,2\n"), progress=lambda *step: seen.append(step))
    assert [step[:3] for step in seen] == [("read", done, 2) for done in range(3)]


@pytest.mark.real_data
def test_published_sets_are_read() -> None:
    folder = os.environ.get("BACO_DATA")
    if not folder:
        pytest.skip("BACO_DATA names no folder of interaction sets")
    split = load_split(Path(folder, "beauty.npz"))
    assert (split.num_users, split.num_items) == (22_363, 12_101)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [158_801, 19_850, 19_851]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\n1,2\n-1,3\n", "column 'user' must hold non-negative integer or string ids, data row 2 has -1"),
        ("1,2\n4,-7\n", "column '2' must hold non-negative integer or string ids, data row 2 has -7"),
        ("user,item\n1,2\n2.5,3\n", "column 'user' must hold integer or string ids, got 2.5"),
    ],
)
def test_negative_and_fractional_ids_are_refused(tmp_path, text, message):
    path = tmp_path / "clicks.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        load_interactions(path)


def test_negative_ids_in_parquet_are_refused(tmp_path):
    path = tmp_path / "clicks.parquet"
    pq.write_table(pa.table({"user": [3, -4], "item": [1, 2]}), path)
    with pytest.raises(InputError, match="data row 2 has -4"):
        load_interactions(path)


@pytest.mark.parametrize("name", ["x.txt.gz", "x.npz.gz", "x.parquet.zst"])
def test_compressed_files_that_are_not_read_are_refused_by_what_is(tmp_path, name):
    (tmp_path / name).write_bytes(b"0 1 2\n")
    with pytest.raises(InputError, match=r"of compressed ones \.csv, \.tsv, .* are read.*decompress it"):
        load_interactions(tmp_path / name)


def test_a_folder_of_a_set_s_name_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movielens-100k").mkdir()
    for part in ("train", "test"):
        (tmp_path / "movielens-100k" / f"{part}.txt").write_text("0 0 1\n1 1\n")
    assert load_split("movielens-100k").num_users == 2
