"""Interactions are written so that reading brings them back; what a format cannot hold is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.data.writing import write_interactions
from baco_gpu.errors import InputError


def interactions(kind: str) -> Interactions:
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 30, 200) * 3, rng.integers(0, 20, 200)
    frame = pd.DataFrame({"user": users, "item": items, "weight": rng.random(200), "timestamp": rng.permutation(200)})
    if kind == "strings":
        frame = frame.assign(user="ü" + frame.user.astype(str), item=[f"i,{item}" for item in items])
    return load_interactions(frame, weight_column="weight", timestamp_column="timestamp")


def raw(part: Interactions) -> list[tuple]:
    sides = ((part.users, part.user_vocabulary), (part.items, part.item_vocabulary))
    users, items = (codes if names is None else names.decode(codes) for codes, names in sides)
    return list(zip(users.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["integers", "strings"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.inter", "x.parquet", "x.feather"])
def test_tables_come_back_with_all_that_they_hold(tmp_path, kind, name):
    whole = interactions(kind)
    assert write_interactions(tmp_path / name, whole) == []
    again = load_interactions(tmp_path / name, weight_column="weight", timestamp_column="timestamp")
    assert raw(again) == raw(whole)
    assert again.weights.tolist() == whole.weights.tolist()
    assert again.timestamps.tolist() == whole.timestamps.tolist()
    assert again.user_vocabulary == whole.user_vocabulary


@pytest.mark.parametrize("kind", ["integers", "strings"])
def test_a_split_comes_back_from_npz_with_its_raw_ids(tmp_path, kind):
    split = load_split_of(interactions(kind))
    lost = write_interactions(tmp_path / "x.npz", split)
    assert lost == [f"an .npz file holds no {name}: they are left out" for name in ("weights", "timestamps")]
    again = load_split(tmp_path / "x.npz")
    for one, other in zip(split.parts, again.parts, strict=True):
        assert raw(one) == raw(other)
    assert (again.num_users, again.train.item_vocabulary) == (split.num_users, split.train.item_vocabulary)


@pytest.mark.parametrize("name", ["x.tsv", "x.inter"])
def test_quotes_come_back_from_text_with_tabs_which_holds_none_in_its_cells(tmp_path, name):
    whole = load_interactions(pd.DataFrame({"user": ['"a"b', "c"], "item": ["x,y", '"']}))
    write_interactions(tmp_path / name, whole)
    assert raw(load_interactions(tmp_path / name)) == [('"a"b', "x,y"), ("c", '"')]
    for cell in ("x\ty", "x\ny"):
        broken = load_interactions(pd.DataFrame({"user": ["a", "b"], "item": ["z", cell]}))
        with pytest.raises(
            InputError, match=r"column 'item.*': text with tabs holds no tabs and line breaks in its cells"
        ):
            write_interactions(tmp_path / "y.tsv", broken)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def load_split_of(whole: Interactions) -> SplitInteractions:
    from baco_gpu.data.splits import merge_repeated, random_split

    return random_split(merge_repeated(whole), seed=1)


def test_a_split_is_a_column_of_a_table(tmp_path):
    split = load_split_of(interactions("strings"))
    write_interactions(tmp_path / "x.csv", split)
    frame = pd.read_csv(tmp_path / "x.csv")
    assert frame.part.value_counts().to_dict() == {
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
    }
    assert list(zip(frame.user, frame.item, strict=True)) == [pair for part in split.parts for pair in raw(part)]


def test_lightgcn_text_keeps_numbers_and_ranks_strings(tmp_path):
    whole = interactions("integers")
    write_interactions(tmp_path / "x.txt", whole)
    assert sorted(raw(load_interactions(tmp_path / "x.txt"))) == sorted(raw(whole))
    words = interactions("strings")
    lost = write_interactions(tmp_path / "y.txt", words)
    assert [line for line in lost if "strings" in line] == [
        f"LightGCN's text holds numbers, and the {side} ids are strings: their ranks in ascending order stand for them"
        for side in ("user", "item")
    ]
    again = load_interactions(tmp_path / "y.txt")
    assert sorted(raw(again)) == sorted(zip(words.users.tolist(), words.items.tolist(), strict=True))


def test_a_folder_gets_the_two_files_of_lightgcn(tmp_path):
    split = load_split_of(interactions("integers"))
    write_interactions(tmp_path / "set", split)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["test.txt", "train.txt"]
    again = load_split(tmp_path / "set")
    assert sorted(raw(again.test)) == sorted(raw(split.test))
    assert sorted(raw(again.train) + raw(again.validation)) == sorted(raw(split.train) + raw(split.validation))
    assert again.num_users == split.num_users


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        (
            "x.xls",
            False,
            "expected a name that ends in one of .csv, .tsv, .inter, .parquet, .feather, .txt, .npz, or",
        ),
        ("x.npz", False, "an .npz file and a folder hold a split, and these interactions have none"),
        ("set", False, "an .npz file and a folder hold a split"),
        ("x.txt", True, "a .txt file holds no split; name a folder"),
        ("no/x.csv", False, "the folder .*no does not exist"),
        ("folder.csv", False, "expected a file to write, got a folder"),
        ("file", True, "expected a folder to write, got a file"),
    ],
)
def test_wrong_targets_are_refused_before_anything_is_written(tmp_path, name, split, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    whole = interactions("integers")
    with pytest.raises(InputError, match=message):
        write_interactions(tmp_path / name, load_split_of(whole) if split else whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"users.integers": np.array([3, 1, 2])}, "x.npz: users: integers of a vocabulary must be strictly increasing"),
        ({"items.integers": np.array([1, 2])}, "x.npz: expected the raw ids of 4 items, got 2"),
        ({"items.utf8": np.zeros(2, np.uint8)}, "x.npz: items: "),
    ],
)
def test_wrong_vocabularies_in_npz_are_refused(tmp_path, arrays, message):
    pairs = np.array([[0, 1], [1, 0]])
    np.savez(tmp_path / "x.npz", train=pairs, val=pairs, test=pairs, num_users=3, num_items=4, **arrays)
    with pytest.raises(InputError, match=message):
        load_split(tmp_path / "x.npz")
