"""Ratings, timestamps, data frames: every kind of table, what is chosen from it, how it weighs, how it is split."""

from __future__ import annotations

import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.filtering import k_core
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.data.temporal import leave_last_out, temporal_split
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.data.weighting import weighted
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph, as_graph
from tiers import examples

ROWS = [(7, 11, 5.0, 100), (7, 12, 2.0, 300), (8, 11, 4.0, 200), (9, 12, 4.5, 50), (9, 13, 1.0, 60)]


def raw(interactions: Interactions) -> list[tuple]:
    """User, item (raw ids) and timestamp of every interaction."""
    times = [None] * len(interactions) if interactions.timestamps is None else interactions.timestamps.tolist()
    users, items = interactions.user_vocabulary, interactions.item_vocabulary
    assert users is not None
    assert items is not None
    pairs = users.decode(interactions.users).tolist(), items.decode(interactions.items).tolist()
    return list(zip(*pairs, times, strict=True))


def table() -> pa.Table:
    users, items, ratings, times = (list(column) for column in zip(*ROWS, strict=True))
    return pa.table({"user": users, "item": items, "rating": ratings, "timestamp": times})


def text(delimiter: str, header: str = "") -> str:
    lines = [delimiter.join(map(str, row)) for row in ROWS]
    return "\n".join([header] * bool(header) + lines) + "\n"


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.fixture(
    params=[
        *("ratings.dat", "u.data", "x.inter", "ratings.csv", "x.tsv", "x.parquet", "x.feather"),
        *("pandas", "polars", "pyarrow", "interchange"),
    ]
)
def source(request, tmp_path):
    """The five ratings as a file of every format, or as a data frame of every library."""
    name = request.param
    path = tmp_path / name
    if name == "ratings.dat":
        return write(path, text("::"))
    if name == "u.data":
        return write(path, text("\t"))
    if name == "x.inter":
        return write(path, text("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"))
    if name == "ratings.csv":
        return write(path, text(",", "userId,movieId,rating,timestamp"))
    if name == "x.tsv":
        return write(path, text("\t", "user\titem\trating\ttimestamp"))
    if name == "x.parquet":
        pq.write_table(table(), path)
        return path
    if name == "x.feather":
        pyarrow.feather.write_feather(table(), path)
        return path

    class Interchange:  # a library that knows the older protocol alone
        columns = ("user", "item", "rating", "timestamp")

        def __dataframe__(self, nan_as_null=False, allow_copy=True):
            return table().__dataframe__(nan_as_null, allow_copy)

    frames = {"pandas": table().to_pandas, "polars": lambda: pl.from_arrow(table()), "pyarrow": table}
    return frames.get(name, Interchange)()


class TestFormats:
    def test_every_row_is_read(self, source):
        interactions = load_interactions(source, timestamp_column="timestamp", weight_column="rating")
        assert raw(interactions) == [(user, item, time) for user, item, _, time in ROWS]
        assert interactions.weights.tolist() == [rating for _, _, rating, _ in ROWS]
        assert load_interactions(source).timestamps is None

    def test_ratings_below_the_threshold_do_not_count(self, source):
        interactions = load_interactions(source, min_rating=4)
        assert [pair[:2] for pair in raw(interactions)] == [(7, 11), (8, 11), (9, 12)]
        assert (interactions.num_users, interactions.num_items) == (3, 2)
        with pytest.raises(InputError, match="min_rating must leave a rating, got 6, and the highest is 5"):
            load_interactions(source, min_rating=6)

    def test_a_column_that_is_not_there_is_named(self, source):
        with pytest.raises(InputError, match="expected a column 'stars', the columns are 'user"):
            load_interactions(source, min_rating=4, rating_column="stars")

    def test_a_graph_comes_of_it(self, source):
        build = BipartiteGraph.from_file if isinstance(source, Path) else BipartiteGraph.from_frame
        assert build(source, min_rating=4).num_edges == 3
        assert as_graph(source).checksum() == build(source).checksum()


@pytest.mark.parametrize("name", ["ratings.dat", "ratings.csv", "u.data"])
def test_a_folder_of_movielens_stands_for_its_ratings(tmp_path, name):
    content = {"ratings.dat": text("::"), "u.data": text("\t"), "ratings.csv": text(",", "userId,movieId,rating,time")}
    write(tmp_path / name, content[name])
    assert len(load_interactions(tmp_path)) == 5


class TestRecBole:
    def test_users_and_items_stand_anywhere(self, tmp_path):
        header = "timestamp:float\titem_id:token\tsession:token\tuser_id:token\n"
        path = write(tmp_path / "x.inter", header + "1.5\ta\ts\tu\n2\tb\ts\tv\n")
        assert raw(load_interactions(path, timestamp_column="timestamp:float")) == [("u", "a", 1.5), ("v", "b", 2.0)]
        assert raw(load_interactions(path, user_column="session"))[0][0] == "s"

    def test_other_tokens_stand_for_users_and_items(self, tmp_path):
        path = write(tmp_path / "x.inter", "stars:float\titem_id:token\tsession:token\n1\ta\ts\n")
        assert raw(load_interactions(path)) == [("s", "a", None)]

    @pytest.mark.parametrize(
        ("header", "columns", "message"),
        [
            ("user_id:token\trating:float", {}, "expected two columns of type token, the columns are 'user_id:token'"),
            ("user_id:token\titem_id:token", {"user_column": "who"}, "expected a column 'who', the columns are"),
            ("user_id:token\titems:token_seq\titem_id:token", {"item_column": "items"}, "a column of type token, got "),
            (
                "user_id:token\titem_id:token\tw:token_seq",
                {"weight_column": "w"},
                "weights must be a column of type",
            ),
        ],
    )
    def test_columns_of_the_wrong_type_are_refused(self, tmp_path, header, columns, message):
        cells = "\t".join("1" for _ in header.split("\t"))
        with pytest.raises(InputError, match=message):
            load_interactions(write(tmp_path / "x.inter", f"{header}\n{cells}\n"), **columns)


class TestWrongTables:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("x.dat", "", "expected lines such as 1::1193::5::978300760 .* got ''"),
            ("x.dat", "1,2,3,4\n", "expected lines such as .* got '1,2,3,4'"),
            ("x.data", "1\t2\t3\n", "expected lines such as "),
            ("x.dat", "1::2::3::4\n1::2::3\n", "expected UTF-8 text of 7 cells a line .*Row #2"),
            ("x.feather", "no feather", "expected a Feather file, but it cannot be read"),
            ("x.feather", "", "expected a Feather file, but it cannot be read"),
            ("x.inter", "", "expected interactions, got an empty file"),
        ],
    )
    def test_files(self, tmp_path, name, content, message):
        with pytest.raises(InputError, match=message) as caught:
            load_interactions(write(tmp_path / name, content))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            (pd.DataFrame({"u": [1]}), "pandas DataFrame: expected at least two columns, got 1"),
            (pd.DataFrame({"u": [], "i": []}), "pandas DataFrame: expected interactions, got a table without rows"),
            (
                pd.DataFrame({"u": [1, "a"], "i": [1, 2]}),
                "pandas DataFrame: expected columns that Arrow can hold",
            ),
            (
                pl.DataFrame({"u": [1.5], "i": [1]}),
                "polars DataFrame: column 'u' must hold integer or string ids",
            ),
            (
                pl.DataFrame({"u": ["a", None], "i": [1, 2]}),
                "column 'u' must have an id in every row, data row 2 has",
            ),
            (pa.table([[1], [2], [3]], ["u", "u", "i"]), "pyarrow Table: expected columns of different names"),
        ],
    )
    def test_frames(self, frame, message):
        with pytest.raises(InputError, match=message) as caught:
            load_interactions(frame)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            (["1", "x"], "must hold numbers or dates such as 2026-11-24T09:30:00, data row 2 has 'x'"),
            (["2026-01-01", "soon"], "data row 2 has 'soon'"),
            (["1", ""], "data row 2 has none"),
            (["2026-01-01", ""], "data row 2 has none"),
            (["1.5", "inf"], "data row 2 has inf"),
        ],
    )
    def test_timestamps_in_text(self, tmp_path, cells, message):
        path = write(tmp_path / "x.csv", "u,i,t\n" + "".join(f"{k},{k},{cell}\n" for k, cell in enumerate(cells)))
        with pytest.raises(InputError, match=message):
            load_interactions(path, timestamp_column="t")

    @pytest.mark.parametrize("values", [[True, False], [None, 3], [[1], [2]]])
    def test_timestamps_in_frames(self, values):
        with pytest.raises(InputError, match="column 't' must hold numbers or dates"):
            load_interactions(pa.table({"u": [1, 2], "i": [1, 2], "t": values}), timestamp_column="t")

    def test_ratings_are_numbers(self, tmp_path):
        path = write(tmp_path / "x.csv", "u,i,rating\n1,1,5\n1,2,good\n")
        with pytest.raises(InputError, match="column 'rating' must hold finite numbers, data row 2 has no number"):
            load_interactions(path, min_rating=1)
        with pytest.raises(InputError, match="ratings must be a column of their own, got 'u'"):
            load_interactions(path, min_rating=1, rating_column="u")


@pytest.mark.parametrize(
    "times",
    [
        ["2026-01-01", "2026-01-02T00:00:30"],
        [pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02 00:00:30")],
        [pd.Timestamp("2026-01-01", tz="CET"), pd.Timestamp("2026-01-02 00:00:30", tz="CET")],
    ],
)
def test_dates_count_in_seconds(times):
    frame = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": times})
    timestamps = load_interactions(frame, timestamp_column="t").timestamps
    assert timestamps[1] - timestamps[0] == 86430


SHORT = pa.decimal32 if hasattr(pa, "decimal32") else pa.decimal128
KEPT_OTHERWISE = {
    "short decimals": pa.array([7, 7, 9]).cast(pa.decimal128(20, 0)).cast(SHORT(5, 0)),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3], [7, 9]),
    "categories": pa.array([7, 7, 9]).dictionary_encode(),
}


@pytest.mark.parametrize("values", KEPT_OTHERWISE.values(), ids=KEPT_OTHERWISE)
def test_integers_may_be_kept_in_other_ways(values):
    read = load_interactions(pa.table({"user": values, "item": [1, 2, 3], "t": values}), timestamp_column="t")
    assert read.user_vocabulary.decode(read.users).tolist() == [7, 7, 9]
    assert read.timestamps.tolist() == [7, 7, 9]


def test_times_in_half_precision_are_numbers():
    table = pa.table({"user": [1, 2], "item": [1, 2], "t": pa.array(np.array([1, 2], np.float16))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_interactions(table, timestamp_column="t").timestamps.tolist() == [1, 2]


@pytest.mark.parametrize("times", [[20261130, 20261201], ["20261130", "20261201"]])
def test_numbers_that_look_like_days_are_numbers_and_that_is_said(times):
    table = pa.table({"user": [1, 2], "item": [1, 2], "t": times})
    with pytest.warns(
        UserWarning, match="column 't' holds numbers such as 20261130, which are read as they are and not"
    ):
        assert load_interactions(table, timestamp_column="t").timestamps.tolist() == [20261130, 20261201]


def test_all_of_a_column_says_whether_numbers_look_like_days():
    """Also where a table comes in pieces, of which the first holds days."""
    days, others = [20261130] * 200_000, [1] * 200_000
    table = pa.table({"user": range(400_000), "item": range(400_000), "t": days + others})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_interactions(table.to_reader(100_000), timestamp_column="t").timestamps[-1] == 1


LAZY = pl.LazyFrame({"user": ["a"], "item": ["b"]})


@pytest.mark.parametrize(
    "frame",
    [
        LAZY.select("nobody"),
        LAZY.with_columns(pl.col("user").str.to_integer()),
        LAZY.with_columns(pl.col("user").cast(pl.Int64)),
        pd.DataFrame({"user": pd.Series([2**70, 3], dtype=object), "item": [1, 2]}),
    ],
)
def test_what_a_library_raises_over_its_frame_is_told_in_a_line(frame):
    with pytest.raises(InputError, match=r"^\w+ \w+Frame: expected columns that Arrow can hold, but ") as told:
        load_interactions(frame)
    assert "\n" not in str(told.value)


def test_dates_in_text_count_in_seconds(tmp_path):
    path = write(tmp_path / "x.csv", "u,i,t\n1,1,2026-01-01\n2,2,2026-01-02 00:00:30\n")
    timestamps = load_interactions(path, timestamp_column="t").timestamps
    assert timestamps[1] - timestamps[0] == 86430
    nanoseconds = write(tmp_path / "y.csv", f"u,i,t\n1,1,{10**18 + 1}\n2,2,{10**18 + 2}\n")
    assert load_interactions(nanoseconds, timestamp_column="t").timestamps.tolist() == [10**18 + 1, 10**18 + 2]


PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=60)


def interactions_of(rows: list[tuple[int, int, int]], **more) -> Interactions:
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(users.astype(np.int32), items.astype(np.int32), 8, 8, timestamps=times, **more)


def naive_core(pairs: set[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    while True:
        kept = {
            (user, item)
            for user, item in pairs
            if sum(u == user for u, _ in pairs) >= k and sum(i == item for _, i in pairs) >= k
        }
        if kept == pairs:
            return kept
        pairs = kept


class TestCore:
    @examples(80)
    @given(rows=PAIRS, k=st.integers(1, 4), strings=st.booleans())
    def test_is_what_peeling_leaves(self, rows, k, strings):
        names = Vocabulary([f"id{number}" for number in range(8)] if strings else [10 * number for number in range(8)])
        interactions = interactions_of(rows, user_vocabulary=names)
        pairs = naive_core({(user, item) for user, item, _ in rows}, k)
        if not pairs:
            with pytest.raises(InputError, match=f"no users and items have {k} interactions"):
                k_core(interactions, k)
            return
        core = k_core(interactions, k)
        users = names.decode(core.users) if core.user_vocabulary is names else core.user_vocabulary.decode(core.users)
        items = core.items if core.item_vocabulary is None else core.item_vocabulary.decode(core.items)
        expected = [row for row in rows if row[:2] in pairs]
        numbers = [names.lookup(user) for user in users.tolist()]
        assert list(zip(numbers, items.tolist(), core.timestamps.tolist(), strict=True)) == expected
        assert core.num_users == len({user for user, _ in pairs})
        assert core.num_items == len({item for _, item in pairs})
        assert core.users.dtype == np.int32

    @pytest.mark.parametrize("core", [0, 1.5, True])
    def test_of_less_than_one_is_refused(self, core):
        with pytest.raises(InputError, match="core must be an integer at least 1"):
            load_interactions(table(), core=core)


class TestWeighting:
    rows = ((0, 0, 10), (0, 0, 30), (1, 0, 20), (0, 0, 40))

    def test_once(self):
        once = weighted(interactions_of(self.rows, weights=np.array([1.0, 2, 3, 4])), "once")
        assert (once.weights, once.users.tolist(), once.timestamps.tolist()) == (None, [0, 1], [10, 20])

    def test_counts(self):
        assert weighted(interactions_of(self.rows), "counts").weights.tolist() == [3, 1]
        assert weighted(interactions_of(self.rows, weights=np.array([1.0, 2, 3, 4])), "counts").weights.tolist() == [
            7,
            3,
        ]

    def test_recency_halves_with_every_half_life(self):
        assert weighted(interactions_of(self.rows), "recency", 10).weights.tolist() == [1 / 8 + 1 / 2 + 1, 1 / 4]
        empty = interactions_of(self.rows).take(np.empty(0, np.int64))
        assert len(weighted(empty, "recency", 10)) == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"weighting": "tfidf"}, "weighting must be one of 'once', 'counts', 'recency', got 'tfidf'"),
            ({"weighting": "recency"}, "half_life must be given for weighting 'recency', and for it alone"),
            (
                {"half_life": 3.0},
                "half_life must be given for weighting 'recency', and for it alone, got",
            ),
            ({"weighting": "recency", "half_life": 0}, "half_life must be a finite number above 0, got 0"),
            ({"weighting": "recency", "half_life": 1, "timestamp_column": "t"}, "expected a column 't'"),
        ],
    )
    def test_mistakes_are_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            load_interactions(table(), **arguments)

    def test_a_half_life_too_short_for_the_span_is_refused_with_one_that_does(self):
        rows = [(0, 0, 0), (1, 1, 1000)]
        with pytest.raises(InputError, match=r"half_life must leave .*, got 1 where the timestamps span 1000: 40 does"):
            weighted(interactions_of(rows), "recency", 1)
        assert weighted(interactions_of(rows), "recency", 40).weights.tolist() == [2**-25, 1]

    def test_timestamps_are_needed(self):
        interactions = load_interactions(table())
        with pytest.raises(InputError, match="weighting 'recency' needs interactions with timestamps"):
            weighted(interactions, "recency", 1)
        for split in (leave_last_out, temporal_split):
            with pytest.raises(InputError, match="needs interactions with timestamps, got none"):
                split(interactions)

    def test_the_reader_applies_it(self):
        twice = pa.concat_tables([table(), table()])
        assert load_interactions(twice, weighting="counts").weights.tolist() == [2] * 5
        recent = load_interactions(twice, weighting="recency", half_life=100)
        assert recent.weights.max() == 2


class TestSplitsInTime:
    @examples(80)
    @given(rows=PAIRS)
    def test_the_last_of_every_user_are_held_out(self, rows):
        split = leave_last_out(interactions_of(rows))
        for user in range(8):
            own = sorted(((time, at) for at, (each, _, time) in enumerate(rows) if each == user))
            items = [rows[at][1] for _, at in own]
            expected = (items[:-2], items[-2:-1], items[-1:]) if len(own) >= 3 else (items, [], [])
            for part, wanted in zip((split.train, split.validation, split.test), expected, strict=True):
                assert sorted(part.items[part.users == user].tolist()) == sorted(wanted)

    @examples(80)
    @given(rows=PAIRS, validation=st.integers(0, 4), test=st.integers(0, 4))
    def test_later_parts_are_later(self, rows, validation, test):
        split = temporal_split(interactions_of(rows), (1 - (validation + test) / 8, validation / 8, test / 8))
        parts = [part.timestamps.tolist() for part in (split.train, split.validation, split.test)]
        assert sorted(chain.from_iterable(parts)) == sorted(time for _, _, time in rows)
        for earlier, later in ((parts[0], parts[1]), (parts[1], parts[2]), (parts[0], parts[2])):
            assert not earlier or not later or max(earlier) <= min(later)
        assert len(parts[2]) == int(np.floor(test / 8 * len(rows) + 0.5))

    def test_the_reader_splits_by_time(self, source):
        split = load_split(source, split="temporal", fractions=(0.4, 0.2, 0.4))
        assert [row[2] for part in (split.train, split.validation, split.test) for row in raw(part)] == [
            *[50, 60],
            100,
            *[300, 200],
        ]
        frame = pd.DataFrame({"u": [1] * 4, "i": [1, 2, 3, 1], "when": [1, 3, 2, 9]})
        last = load_split(frame, split="leave-last-out", timestamp_column="when")
        assert raw(last.test) == [(1, 2, 3)]  # item 1 counts from its first time on
        assert raw(last.validation) == [(1, 3, 2)]

    def test_a_given_split_is_kept(self, tmp_path):
        pairs = np.array([[0, 1], [1, 0]])
        np.savez(tmp_path / "x.npz", train=pairs, val=pairs, test=pairs, num_users=2, num_items=2)
        with pytest.raises(InputError, match="split applies to data without a split, and this comes with one"):
            load_split(tmp_path / "x.npz", split="random")
        with pytest.raises(InputError, match="core applies to data without a split"):
            load_interactions(tmp_path / "x.npz", core=2)
        with pytest.raises(InputError, match="min_rating applies to tables, and this is npz"):
            load_interactions(tmp_path / "x.npz", min_rating=2)
        with pytest.raises(InputError, match="split must be one of 'random', 'leave-last-out', 'temporal', got 'last'"):
            load_split(table(), split="last")


def test_lightgcn_text_without_a_split_has_a_core(tmp_path):
    path = write(tmp_path / "x.txt", "0 0 1\n1 0 1\n2 5\n")
    assert len(load_interactions(path, core=2)) == 4
