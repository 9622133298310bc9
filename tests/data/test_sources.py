"""What interactions come as: times of every kind, frames, folders; how often a pair counts; and what is none of it."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph, as_graph


def pairs(read: Interactions) -> list[tuple]:
    """The raw ids of all interactions."""
    assert read.user_vocabulary is not None
    assert read.item_vocabulary is not None
    sides = (read.user_vocabulary.decode(read.users), read.item_vocabulary.decode(read.items))
    return list(zip(*(side.tolist() for side in sides), strict=True))


def at(times) -> list:
    """The timestamps of interactions at these times, an Arrow column."""
    table = pa.table({"user": [1, 2], "item": [3, 4], "time": times})
    found = load_interactions(table, timestamp_column="time")
    assert found.timestamps is not None
    return found.timestamps.tolist()


class TestTimestamps:
    @pytest.mark.parametrize(
        ("times", "expected"),
        [
            (pa.array([1, 2], pa.timestamp("ns")), [1e-9, 2e-9]),
            (pa.array([1_500_000_000_000_000_001, 0], pa.timestamp("ns", "CET")), [1.5e9, 0]),
            (pa.array([1, 2], pa.timestamp("us")), [1e-6, 2e-6]),
            (pa.array([1, 2], pa.timestamp("ms")), [1e-3, 2e-3]),
            (pa.array([2**62, 2], pa.timestamp("s")), [2.0**62, 2]),
            (pa.array([1, 2], pa.int32()).cast(pa.date32()), [86400, 172800]),
            (pa.array([86_400_000, 0], pa.date64()), [86400, 0]),
            (pa.array([5, 2**63 - 1], pa.uint64()), [5, 2**63 - 1]),
            (pa.array([Decimal(7), Decimal(2**53 + 1)], pa.decimal128(30, 0)), [7, 2**53 + 1]),
            (pa.array([Decimal("7.5"), Decimal(2)], pa.decimal128(30, 2)), [7.5, 2]),
            (pa.array(["2009-05-04T23:08:57Z", "2009-05-04T23:08:57+02:00"]), [1241478537, 1241471337]),
            (pa.array(["2009-05-04T23:08:57.5", "2009-05-04"]), [1241478537.5, 1241395200]),
            (pa.array(["1970-01-01T00:00:00.000000001", "1970-01-02"]), [1e-9, 86400]),
            (pa.array(["1970-01-01T00:00:00.000000001Z", "1970-01-02T00:00Z"]), [1e-9, 86400]),
            (pa.array(["1970-01-02", "1970-01-03"]).cast(pa.string_view()), [86400, 172800]),
            (pa.array(["1970-01-02", "1970-01-02"]).dictionary_encode(), [86400, 86400]),
            (pa.array([3, 3], pa.int64()).dictionary_encode(), [3, 3]),
            (pa.array(["17", "18"], pa.large_string()), [17, 18]),
        ],
    )
    def test_of_every_kind_are_what_is_written(self, times, expected):
        assert at(times) == expected

    def test_of_polars_are_what_is_written(self):
        days = pl.Series(["2026-01-01", "2026-01-03"])
        moments = days.str.to_datetime(time_unit="ns")
        for times in (days, days.cast(pl.Categorical), days.cast(pl.Enum(["2026-01-01", "2026-01-03"])), moments):
            first, second = at(times.to_arrow())
            assert second - first == 2 * 86400

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            (
                ["1433221332", "2018-07-07"],
                r"all in one form: data row 1 has '1433221332' \(a number\), data row 2 ",
            ),
            (["2018-07-07", "1433221332"], r"data row 2 '1433221332' \(a number\)"),
            (
                ["2018-07-07T00:00Z", "2018-07-07"],
                r"row 1 has '2018-07-07T00:00Z' \(a date with an offset\)",
            ),
            (["2018-07-07", "7/7/2018"], "or dates such as 2026-11-24T09:30:00, data row 2 has '7/7/2018'"),
            (pa.array([2**63 + 1, 5], pa.uint64()), "data row 1 has 9223372036854775809"),
            (["9223372036854775809", "5"], r"data row 1 has 9.223372036854776e\+18"),
            (pa.array([Decimal(2**63), Decimal(5)], pa.decimal128(30, 0)), r"got decimal128\(30, 0\) beyond 64 bits"),
            (pa.array([5, None], pa.timestamp("ns")), "data row 2 has none"),
            (pa.array([5, 6], pa.duration("s")), r"got duration\[s\]"),
        ],
    )
    def test_of_no_time_are_refused(self, times, message):
        with pytest.raises(InputError, match=message) as caught:
            at(times)
        assert str(caught.value).startswith("pyarrow Table: column 'time' must hold numbers or dates")

    def test_in_text_are_of_one_form_in_all_rows(self, tmp_path):
        rows = [f"{row},{row},{row}" for row in range(20_000)]
        path = tmp_path / "x.csv"
        path.write_text("\n".join(["user,item,time", *rows, "1,1,2018-07-07"]))
        with pytest.raises(
            InputError, match=r"data row 1 has '0' \(a number\), data row 20001 '2018-07-07' \(a date\)"
        ):
            load_interactions(path, timestamp_column="time")


class TestKindsOfSource:
    def test_categories_and_lazy_frames_of_polars_are_read(self):
        frame = pl.DataFrame({"user": ["b", "a", "b"], "item": ["x", "y", "y"]})
        kinds = {"user": pl.Categorical, "item": pl.Enum(["y", "x"])}
        for source in (frame, frame.cast(kinds), frame.lazy(), frame.cast(kinds).lazy(), frame.cast(kinds).to_arrow()):
            assert pairs(load_interactions(source)) == [("b", "x"), ("a", "y"), ("b", "y")]
            assert BipartiteGraph.from_frame(source).num_edges == as_graph(source).num_edges == 3

    def test_decimals_are_ids_where_they_are_whole(self, tmp_path):
        whole = pa.table({"user": pa.array([Decimal(3), Decimal(1)], pa.decimal128(20, 0)), "item": [2, 2]})
        assert pairs(load_interactions(whole)) == [(3, 2), (1, 2)]
        scaled = whole.set_column(0, "user", whole["user"].cast(pa.decimal128(38, 10)))
        assert pairs(load_interactions(scaled)) == [(3, 2), (1, 2)]
        assert load_interactions(scaled, user_column="item", item_column="user", weight_column=None).num_items == 2
        half = pa.table({"user": [Decimal("1.5"), Decimal(1)], "item": [2, 2]})
        with pytest.raises(InputError, match=r"column 'user' must hold integer or string ids, got decimal128\(2, 1\)"):
            load_interactions(half)
        weights = load_interactions(
            pa.table({"user": [1, 2], "item": [2, 2], "w": half["user"]}), weight_column="w"
        ).weights
        assert weights.tolist() == [1.5, 1]

    @pytest.mark.parametrize(
        "source",
        [
            *(pd.Series([1]), pl.Series([1]), np.zeros((3, 2)), scipy.sparse.eye_array(3), pa.array([1]), [(1, 2)]),
            *({"user": [1]}, None, torch.zeros(2, 2), pd.Index([1])),
        ],
        ids=lambda source: type(source).__module__ + type(source).__name__,
    )
    def test_others_are_refused_with_what_can_be_given(self, source):
        with pytest.raises(InputError, match=r"a string, a path or a data frame, got \w+ \(BipartiteGraph.from_edges"):
            load_interactions(source)
        with pytest.raises(InputError, match="must be a string, a path or a data frame"):
            load_split(source)

    def test_a_list_names_a_file_at_least(self):
        with pytest.raises(InputError, match="a string, a path or a data frame, got an empty list"):
            load_interactions([])

    def test_folders_of_parquet_are_read_as_spark_writes_them(self, tmp_path):
        for day, user in (("2026-01-01", 1), ("2026-01-02", 3)):
            (tmp_path / "clicks" / f"dt={day}").mkdir(parents=True)
            part = pa.table({"left": [user], "right": [2]})
            pq.write_table(part, tmp_path / "clicks" / f"dt={day}" / "part-00000.snappy.parquet")
        (tmp_path / "clicks" / "_SUCCESS").touch()
        for reading in ({}, {"format": "parquet"}):
            assert sorted(pairs(load_interactions(tmp_path / "clicks", **reading))) == [(1, 2), (3, 2)]
        timed = load_interactions(tmp_path / "clicks", timestamp_column="dt").timestamps
        assert sorted(timed.tolist()) == [1767225600, 1767312000]
        assert len(load_split(tmp_path / "clicks").train) == 2
        with pytest.raises(InputError, match="expected a column 'user', the columns are 'left', 'right', 'dt'"):
            load_interactions(tmp_path / "clicks", user_column="user")


class TestRepeatedPairs:
    frame = pd.DataFrame({"user": [0, 0, 1], "item": [0, 0, 1], "n": [2.0, 3.0, 1.0]})

    def test_count_once_unless_a_weighting_or_weights_say_otherwise(self):
        assert BipartiteGraph.from_frame(self.frame).csr.weights is None
        assert as_graph(self.frame).num_edges == 2
        for more in ({"weighting": "counts"}, {"duplicates": "sum"}):
            assert BipartiteGraph.from_frame(self.frame, **more).csr.weights.tolist() == [2, 1]
        assert BipartiteGraph.from_frame(self.frame, weight_column="n").csr.weights.tolist() == [5, 1]
        assert BipartiteGraph.from_frame(self.frame, weight_column="n", duplicates="drop").csr.weights.tolist() == [
            2,
            1,
        ]

    def test_count_as_they_do_in_a_split(self):
        one, split = load_interactions(self.frame), load_split(self.frame, fractions=(1, 0, 0))
        graphs = [BipartiteGraph.from_interactions(interactions) for interactions in (one, split.train)]
        assert graphs[0].checksum() == graphs[1].checksum()
