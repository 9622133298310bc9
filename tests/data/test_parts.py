"""Tables in parts: however a table is divided, into files of whatever format or batches, it gives the same."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from baco_gpu.data import numbering
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.data.sources import delimited, frames, rows
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import as_graph
from tiers import examples

COLUMNS = {"weight_column": "stars", "timestamp_column": "time"}


def write_text(path: Path, part: pa.Table, delimiter: str, packed: Callable[[bytes], bytes] = bytes) -> None:
    stream = pa.BufferOutputStream()
    style = "none" if delimiter == "\t" else "needed"
    options = pyarrow.csv.WriteOptions(delimiter=delimiter, quoting_style=style, quoting_header="none")
    pyarrow.csv.write_csv(part, stream, options)
    path.write_bytes(packed(stream.getvalue().to_pybytes()))


def write_lines(path: Path, part: pa.Table, packed: Callable[[bytes], bytes] = bytes) -> None:
    path.write_bytes(packed("".join(json.dumps(row) + "\n" for row in part.to_pylist()).encode()))


def zst(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "parquet": lambda path, part: pq.write_table(part, path, row_group_size=2),
    "feather": lambda path, part: pyarrow.feather.write_feather(part, path, chunksize=2),
    "csv": lambda path, part: write_text(path, part, ","),
    "csv.gz": lambda path, part: write_text(path, part, ",", gzip.compress),
    "csv.bz2": lambda path, part: write_text(path, part, ";", bz2.compress),
    "tsv.zst": lambda path, part: write_text(path, part, "\t", zst),
    "jsonl": write_lines,
    "json.gz": lambda path, part: write_lines(path, part, gzip.compress),
}

INTEGERS = st.one_of(st.integers(0, 20), st.integers(0, 2**63 - 1))
WORDS = st.text("abcé", min_size=1, max_size=3)
SECONDS = st.integers(0, 2_000_000_000)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Interactions of integer or string ids, with weights and times."""
    size = draw(st.integers(1, 12))
    kinds = [draw(st.sampled_from((INTEGERS, WORDS))) for _ in range(2)]
    users, items = (draw(st.lists(kind, min_size=size, max_size=size)) for kind in kinds)
    stars = draw(st.lists(st.integers(0, 9).map(float), min_size=size, max_size=size))
    times = draw(st.lists(SECONDS, min_size=size, max_size=size))
    return pa.table({"user": users, "item": items, "stars": stars, "time": times})


def parts_of(table: pa.Table, cuts: list[int]) -> list[pa.Table]:
    ends = sorted({0, len(table), *(cut for cut in cuts if cut < len(table))})
    return [table.slice(start, stop - start) for start, stop in itertools.pairwise(ends)]


@contextlib.contextmanager
def small_pieces() -> Iterator[None]:
    """Batches of two rows, segments of three ids: what long tables are read in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "_SEGMENT_BYTES", 24)
        patch.setattr(rows, "_ROWS_AT_ONCE", 2)
        patch.setattr(frames, "_BATCH_ROWS", 2)
        patch.setattr(delimited, "_BLOCK_BYTES", 64)
        yield


def assert_same(found: Interactions, expected: Interactions) -> None:
    for name in ("users", "items", "weights", "timestamps"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
    assert found.user_vocabulary == expected.user_vocabulary
    assert found.item_vocabulary == expected.item_vocabulary
    assert (found.num_users, found.num_items) == (expected.num_users, expected.num_items)


def numbered_by_hand(table: pa.Table) -> list[list[int]]:
    columns = (table.column(side).to_pylist() for side in ("user", "item"))
    return [[sorted(set(column)).index(value) for value in column] for column in columns]


@pytest.mark.parametrize("suffix", WRITERS)
@examples(60)
@given(table=tables(), cuts=st.lists(st.integers(1, 11), max_size=4))
def test_any_parts_in_any_format_are_the_table(suffix: str, table: pa.Table, cuts: list[int]) -> None:
    whole = load_interactions(table, **COLUMNS)
    assert [whole.users.tolist(), whole.items.tolist()] == numbered_by_hand(table)
    with tempfile.TemporaryDirectory() as folder, small_pieces():
        paths = []
        for number, part in enumerate(parts_of(table, cuts)):
            paths.append(Path(folder, f"part-{number:02}.{suffix}"))
            WRITERS[suffix](paths[-1], part)
        for source in (Path(folder), paths, f"{folder}/part-*.{suffix}"):
            assert_same(load_interactions(source, **COLUMNS), whole)


@examples(60)
@given(table=tables(), cuts=st.lists(st.integers(1, 11), max_size=4))
def test_any_batches_of_any_object_are_the_table(table: pa.Table, cuts: list[int]) -> None:
    whole = load_interactions(table, **COLUMNS)
    parts = pa.concat_tables(parts_of(table, cuts))
    with small_pieces():
        for source in (
            parts,
            parts.to_reader(),
            ds.dataset(parts),
            parts.to_pandas(),
            pl.DataFrame(parts),
            pl.LazyFrame(parts),
        ):
            assert_same(load_interactions(source, **COLUMNS), whole)


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """A folder as Spark leaves it: two days and one without, with what is none of the table beside them."""
    days = {"dt=2026-01-01": [1, 2], "dt=2026-01-02": [3], "dt=__HIVE_DEFAULT_PARTITION__": [4]}
    for day, users in days.items():
        (tmp_path / "clicks" / day).mkdir(parents=True)
        part = pa.table({"user": users, "item": [7] * len(users), "hour": [9 + user for user in users]})
        pq.write_table(part, tmp_path / "clicks" / day / "part-0.snappy.parquet")
    (tmp_path / "clicks" / "_SUCCESS").touch()
    (tmp_path / "clicks" / ".part-0.crc").write_bytes(b"x")
    (tmp_path / "clicks" / "_temporary").mkdir()
    (tmp_path / "clicks" / "_temporary" / "part-1.parquet").write_bytes(b"half")
    return tmp_path / "clicks"


def users_of(source: object, **reading: object) -> list:
    read = load_interactions(source, **reading)
    assert read.user_vocabulary is not None
    return sorted(read.user_vocabulary.decode(read.users).tolist())


class TestFolders:
    @pytest.mark.parametrize(
        ("where", "users"),
        [
            (None, [1, 2, 3, 4]),
            ("dt>=2026-01-02", [3]),
            ("dt = 2026-01-01", [1, 2]),
            ("dt!=2026-01-01", [3]),
            (["dt<2026-01-02", "hour>10"], [2]),
            ("hour<=11", [1, 2]),
        ],
    )
    def test_give_the_rows_that_conditions_leave(self, clicks, where, users):
        assert users_of(clicks, where=where) == users

    def test_that_a_condition_leaves_out_are_not_opened(self, clicks):
        (clicks / "dt=2026-01-02" / "part-0.snappy.parquet").write_bytes(b"damaged")
        assert users_of(clicks, where="dt<2026-01-02") == [1, 2]

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("dt", "where must be conditions such as dt>=2026-01-01 .*, got 'dt'"),
            (">3", "where must be conditions"),
            ("dt<>2026-01-01", "where must be conditions"),
            ("dt=>2026-01-01", "where must be conditions"),
            (3, "where must be conditions such as .*, got 3"),
            ("dt>2027", r"where must leave a file, got 'dt>2027', and there are dt=2026-01-01, dt="),
            ("day>3", "where must name a column, the columns are 'user', 'item', 'hour', 'dt', got 'day>3'"),
            ("hour>x", "where must compare column 'hour' with a value of its type, int64, got 'hour>x'"),
            ("hour>99", "expected interactions, got a table without rows of hour>99"),
        ],
    )
    def test_refuse_conditions_that_say_nothing(self, clicks, where, message):
        with pytest.raises(InputError, match=message):
            load_interactions(clicks, where=where)

    def test_of_numbers_compare_as_numbers(self, tmp_path):
        for hour in (2, 10):
            (tmp_path / f"hour={hour}").mkdir()
            (tmp_path / f"hour={hour}" / "part.csv.gz").write_bytes(gzip.compress(b"user,item\n%d,1\n" % hour))
        assert users_of(tmp_path, where="hour>2") == [10]
        assert load_interactions(tmp_path, timestamp_column="hour").timestamps.tolist() == [10, 2]
        with pytest.raises(InputError, match=r"where applies, of text, to what names of folders say \(hour\), got 'u"):
            load_interactions(tmp_path, where="user>2")

    def test_may_have_parts_of_compatible_schemas(self, tmp_path):
        parts = [
            {"user": pa.array([1], pa.int8()), "item": pa.array(["a"]), "more": [1.5]},
            {"item": pa.array(["b"], pa.large_string()), "user": pa.array([2], pa.uint32())},
            {"user": pa.array([1], pa.int64()).dictionary_encode(), "item": pa.array(["a"]).dictionary_encode()},
        ]
        for number, part in enumerate(parts):
            pq.write_table(pa.table(part), tmp_path / f"{number}.parquet")
        read = load_interactions(tmp_path)
        assert (read.users.tolist(), read.items.tolist()) == ([0, 1, 0], [0, 1, 0])

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ({"user": ["03"], "item": [1]}, "1.parquet: column 'user' must hold numbers, as in .*0.parquet, got str"),
            ({"user": [1.5], "item": [1]}, "1.parquet: column 'user' must hold integer or string ids, got double"),
            ({"user": [1]}, "1.parquet: expected a column 'item', as in .*0.parquet, the columns are 'user'"),
            ({"user": [1], "item": [None]}, "1.parquet: column 'item' must hold numbers, as in .*, got null"),
            ({"user": [1], "item": [-1]}, "1.parquet: column 'item' must hold non-negative .*, data row 1 has -1"),
        ],
    )
    def test_name_the_part_that_differs(self, tmp_path, part, message):
        pq.write_table(pa.table({"user": [1], "item": [2]}), tmp_path / "0.parquet")
        pq.write_table(pa.table(part), tmp_path / "1.parquet")
        with pytest.raises(InputError, match=message):
            load_interactions(tmp_path)

    def test_with_other_files_are_refused(self, clicks):
        (clicks / "README.md").touch()
        with pytest.raises(InputError, match=r"README.md: expected one of the suffixes .* got '.md'"):
            load_interactions(clicks)
        (clicks / "README.md").rename(clicks / "x.csv")
        with pytest.raises(InputError, match=r"expected files of one format, got parquet .* and csv"):
            load_interactions(clicks)
        shutil.rmtree(clicks)
        clicks.mkdir()
        with pytest.raises(InputError, match="expected files in this folder, and there is none"):
            load_interactions(clicks)


class TestFiles:
    def test_that_match_a_pattern_are_one_table(self, clicks, monkeypatch):
        assert users_of(f"{clicks}/dt=2026-01-0[12]/*.parquet") == [1, 2, 3]
        assert users_of(f"{clicks}/dt=2026-01-0?") == [1, 2, 3]
        assert users_of(f"{clicks.parent}/**/*.parquet", where="dt=2026-01-02") == [3]
        monkeypatch.chdir(clicks.parent)
        assert users_of("*/*01") == [1, 2]
        with pytest.raises(InputError, match=r"nowhere\*: expected files that this pattern matches, and there is none"):
            load_interactions("nowhere*")

    def test_whose_names_have_brackets_are_themselves(self, tmp_path):
        (tmp_path / "x[1].csv").write_text("user,item\n1,2\n")
        assert users_of(tmp_path / "x[1].csv") == [1]

    def test_of_text_without_rows_are_left_out(self, tmp_path):
        for number, content in enumerate(("", "user,item\n", "user,item\n5,6\n")):
            (tmp_path / f"{number}.csv").write_text(content)
        assert users_of(tmp_path) == [5]
        (tmp_path / "2.csv").unlink()
        with pytest.raises(InputError, match=r"1.csv: expected interactions below the header, got none"):
            load_interactions(tmp_path)

    def test_of_text_have_columns_in_any_order_and_ids_of_one_kind(self, tmp_path):
        (tmp_path / "0.csv").write_text("user,item\n07,6\n")
        (tmp_path / "1.csv").write_text("item,when,user\n6,1,7\n")
        assert users_of(tmp_path) == [7, 7]
        (tmp_path / "2.csv").write_text("user,item\nx,6\n")
        assert users_of(tmp_path) == ["07", "7", "x"]
        (tmp_path / "3.csv").write_text("5,6\n")
        with pytest.raises(
            InputError, match=r"3.csv: expected a column 'user', as in .*0.csv, the columns are '5', '6'"
        ):
            load_interactions(tmp_path)

    def test_of_text_are_read_again_where_late_cells_surprise(self, tmp_path):
        numbers = "".join(f"{number},1\n" for number in range(20_000))
        for late, users in (("0x1f,1\n", "0x1f"), ("a,1\n", "a"), ('"b",1\n', "b")):
            (tmp_path / "x.csv").write_text("user,item\n" + numbers + late)
            assert users in users_of(tmp_path / "x.csv")

    def test_are_divided_by_the_separator_that_is_named(self, tmp_path):
        (tmp_path / "x.log").write_text("user^item\n1^2\n")
        assert users_of(tmp_path / "x.log", separator="^") == [1]
        (tmp_path / "x.txt").write_text("1 2\n3 4\n")
        assert users_of(tmp_path / "x.txt", separator=" ") == [1, 3]
        for separator in ("", "::", '"', "é"):
            with pytest.raises(InputError, match="separator must be one letter of ASCII"):
                load_interactions(tmp_path / "x.log", separator=separator)
        pq.write_table(pa.table({"user": [1], "item": [2]}), tmp_path / "x.parquet")
        for source in (tmp_path / "x.parquet", pa.table({"user": [1], "item": [2]})):
            with pytest.raises(InputError, match="separator applies to csv and tsv"):
                load_interactions(source, separator=",")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"user":1,"item":2}\n{"user":"a","item":3}\n', "JSON, an object a line, but .* number to string"),
            ('[{"user":1,"item":2}]', "expected JSON, an object a line"),
            ("", "expected JSON, an object a line"),
            ('{"user":1.5,"item":2}\n', "column 'user' must hold integer or string ids, got double"),
            ('{"user":1,"item":2}\n{"item":2}\n', "column 'user' must have an id in every row, data row 2 has none"),
            ('{"user":1}\n', "expected at least two columns, got 1"),
        ],
    )
    def test_of_json_that_are_none_are_refused(self, tmp_path, content, message):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(InputError, match=rf"x\.jsonl: {message}|x\.jsonl.*{message}"):
            load_interactions(tmp_path / "x.jsonl")

    def test_of_json_may_hold_anything_else(self, tmp_path):
        lines = [
            '{"user":"2026-01-01","item":1,"t":"2026-01-01","tags":[{"a":1}]}',
            '{"item":2,"user":"x","t":"2026-01-02"}',
        ]
        (tmp_path / "x.ndjson").write_text("\n".join(lines))
        assert users_of(tmp_path / "x.ndjson") == ["2026-01-01", "x"]
        assert np.diff(load_interactions(tmp_path / "x.ndjson", timestamp_column="t").timestamps) == [86400]


class TestObjects:
    table = pa.table({"user": [1, 2, 1], "item": ["a", "b", "b"], "day": ["2026-01-01", "2026-01-02", "2026-01-03"]})

    def test_of_all_libraries_are_filtered(self):
        frame = pl.DataFrame(self.table)
        for source in (self.table, self.table.to_reader(), ds.dataset(self.table), frame, frame.lazy()):
            assert users_of(source, where="day>2026-01-01") == [1, 2]
            if not isinstance(source, pa.RecordBatchReader):
                assert as_graph(source).num_edges == 3
                assert len(load_split(source, fractions=(1, 0, 0)).train) == 3

    def test_of_which_rows_are_left_out_have_the_kept_ones_counted(self):
        table = pa.table({"user": [1, 2, None], "item": [1, 2, 3], "n": pa.array(["a", "b", "b"]).dictionary_encode()})
        for source in (table, ds.dataset(table)):
            assert users_of(source, where="n=a") == [1]
            with pytest.raises(InputError, match="an id in every row, row 2 of those that where keeps has none"):
                load_interactions(source, where="n=b")

    def test_that_are_read_once_are_empty_then(self):
        reader = self.table.to_reader()
        assert users_of(reader) == [1, 1, 2]
        with pytest.raises(
            InputError, match="pyarrow RecordBatchReader: expected interactions, got a table without rows"
        ):
            load_interactions(reader)

    def test_that_fail_while_they_are_read_say_so(self):
        lazy = pl.LazyFrame(self.table).with_columns(pl.col("item").cast(pl.Int64))
        with pytest.raises(InputError, match="polars LazyFrame: expected columns that Arrow can hold, but"):
            load_interactions(lazy)

    @pytest.mark.nightly("needs DuckDB")
    def test_of_duckdb_are_read(self):
        duckdb = pytest.importorskip("duckdb")
        connection = duckdb.connect()
        connection.register("clicks", self.table)
        relation = connection.sql('select "user", item as "the ""item""", day from clicks order by item, day')
        read = load_interactions(relation, item_column='the "item"')
        assert (read.users.tolist(), read.items.tolist()) == ([0, 1, 0], [0, 1, 1])
        assert users_of(relation, where="day>2026-01-01") == [1, 2]
        assert as_graph(connection.table("clicks")).num_edges == 3


class TestElsewhere:
    @pytest.fixture
    def remote(self, clicks):
        """The same folder in a file system that Arrow knows through fsspec alone."""
        system = fsspec.filesystem("memory")
        system.put(str(clicks), "/clicks", recursive=True)
        yield "memory://clicks"
        system.rm("/clicks", recursive=True)

    def test_folders_patterns_and_lists_are_read_as_here(self, remote):
        assert users_of(remote) == users_of(f"{remote}/") == [1, 2, 3, 4]
        assert users_of(remote, where="dt>=2026-01-02") == [3]
        assert users_of(f"{remote}/dt=2026*/*.parquet") == [1, 2, 3]
        assert users_of([f"{remote}/dt=2026-01-01", f"{remote}/dt=2026-01-02"]) == [1, 2, 3]

    @pytest.mark.nightly("needs moto, and a server of S3")
    def test_s3_is_read_as_here(self, clicks, monkeypatch):
        server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        for name, value in {
            "ACCESS_KEY_ID": "any",
            "SECRET_ACCESS_KEY": "any",
            "EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        server.start()
        try:
            where = f"127.0.0.1:{server.get_host_and_port()[1]}"
            s3 = fs.S3FileSystem(endpoint_override=where, scheme="http", region="us-east-1", allow_bucket_creation=True)
            s3.create_dir("shop")
            fs.copy_files(str(clicks), "shop/all clicks", destination_filesystem=s3)
            at = f"?endpoint_override={where}&scheme=http&region=us-east-1"
            assert users_of(f"s3://shop/all clicks{at}") == [1, 2, 3, 4]
            assert users_of(f"s3://shop/all clicks{at}", where="dt>=2026-01-02") == [3]
            assert users_of(f"s3://shop/all clicks/dt=2026-01-0[12]/*.parquet{at}") == [1, 2, 3]
            for address in (f"s3://shop/none{at}", f"s3://none/clicks{at}"):
                with pytest.raises(InputError, match=re.escape(f"{address}: expected a file of interactions")):
                    load_interactions(address)
        finally:
            server.stop()

    def test_text_is_read_as_here(self):
        system = fsspec.filesystem("memory")
        system.pipe("/text/x.csv.gz", gzip.compress(b"user,item\n1,2\n"))
        system.pipe("/text/y.jsonl", b'{"user":1,"item":2}\n')
        assert users_of("memory://text/x.csv.gz") == users_of("memory://text/y.jsonl") == [1]
        system.pipe("/text/x.csv.gz", b"no gzip")
        with pytest.raises(InputError, match=re.escape("memory://text/x.csv.gz: expected a .gz file, but it cannot")):
            load_interactions("memory://text/x.csv.gz")
        system.rm("/text", recursive=True)

    def test_local_addresses_are_paths(self, clicks):
        assert users_of(f"file://{clicks}") == [1, 2, 3, 4]
        assert users_of(f"file://{clicks}/dt=2026-01-0[12]/*.parquet") == [1, 2, 3]

    def test_addresses_may_have_blanks(self, tmp_path):
        write_text(tmp_path / "my clicks.csv", pa.table({"user": [1], "item": [2]}), ",")
        assert users_of(f"file://{tmp_path}/my clicks.csv") == [1]
        assert users_of(f"file://{tmp_path}/my%20clicks.csv") == [1]

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("memory://nowhere/x.parquet", "expected a file of interactions, and there is none"),
            ("nowhere://x/y", "expected an address that Arrow or fsspec can open, but "),
        ],
    )
    def test_what_is_not_there_is_named(self, address, message):
        with pytest.raises(InputError, match=re.escape(f"{address}: {message}")) as caught:
            load_interactions(address)
        assert "\n" not in str(caught.value)


def test_folders_that_are_one_number_stay_two_ids(tmp_path):
    """Arrow and polars read 7 and 007 as one."""
    for shop in ("7", "007"):
        folder = tmp_path / "clicks" / f"shop={shop}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"item": [1, 2]}), folder / "part.parquet")
    found = load_interactions(tmp_path / "clicks", user_column="shop")
    assert found.user_vocabulary.decode(np.arange(found.num_users)).tolist() == ["007", "7"]


def test_names_of_members_are_text(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"us\xf7r": 1, "item": 2}\n')
    with pytest.raises(InputError, match=r"x\.jsonl: expected names of members in UTF-8, but"):
        load_interactions(tmp_path / "x.jsonl")
