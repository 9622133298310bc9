"""Cells of delimited text: quotes that are letters or lost, ids that are integers or not, whatever stands where."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import os
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.readers import load_interactions
from baco_gpu.data.sources import delimited, quoting
from baco_gpu.errors import InputError
from tiers import examples


def ids(path: Path, side: str = "user") -> list:
    read = load_interactions(path)
    codes, names = (read.users, read.user_vocabulary) if side == "user" else (read.items, read.item_vocabulary)
    assert names is not None
    return names.decode(codes).tolist()


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


class TestQuotes:
    @pytest.mark.parametrize(
        ("rows", "line"),
        [
            (['1,2,"5 inch', "3,4,x", "5,6,y"], 2),  # never closed
            (["1,2,x", '3,4,"5 inch', "5,6,x", '7,8,"6 inch', "9,9,x"], 3),  # closed in the middle of a cell
            (['1,2,"5 inch', "3,4,x", '5,6,7"', "7,8,x"], 2),  # closed where a cell ends, around whole rows
            (['1,2,"5 inch', '3,4,6"', "7,8,x"], 2),
            (['1,2,"a ""b"""', '3,4,"c', "5,6,d"], 3),
            (['"1,2,x', "3,4,y"], 2),
        ],
    )
    @pytest.mark.parametrize("block", [1, 5, 1 << 24])
    def test_that_do_not_close_are_refused(self, tmp_path, monkeypatch, rows, line, block):
        monkeypatch.setattr(quoting, "_BLOCK_BYTES", block)
        path = write(tmp_path / "x.csv", "\n".join(["user,item,title", *rows]) + "\n")
        with pytest.raises(InputError, match=f"x.csv: expected quotes that close .* a cell in line {line} does not"):
            load_interactions(path)

    def test_late_in_a_file_are_refused(self, tmp_path):
        rows = [f"{row},{row % 7},x" for row in range(20_000)]
        rows[15_000] = '15000,3,"5 inch'
        with pytest.raises(InputError, match="a cell in line 15002 does not"):
            load_interactions(write(tmp_path / "x.csv", "\n".join(["user,item,title", *rows])))
        rows[15_000] = '15000,3,5" inch'
        assert len(ids(write(tmp_path / "x.csv", "\n".join(["user,item,title", *rows])))) == 20_000

    def test_of_many_rows_of_strings_are_refused(self, tmp_path):
        rows = [f"u{row},i{row},x" for row in range(40)]
        rows[3], rows[30] = 'u3,i3,"5 inch', 'u30,i30,6"'
        with pytest.raises(InputError, match="a cell in line 5 does not"):
            load_interactions(write(tmp_path / "x.csv", "\n".join(["user,item,title", *rows])))

    @pytest.mark.parametrize(
        "rows",
        [
            ['1,2,"a, b"', '3,4,"c', 'd"', "5,6,e"],
            ['1,2,"dear,', 'you, there"', '3,4,5" x', "5,6,"],
            ['1,2,"5" inch', '3,4,"""a"""', '5,6,""'],
            ['"1","2","x ""y""', "", 'z"', "3,4,5", "5,6,7"],
        ],
    )
    @pytest.mark.parametrize("block", [1, 5, 1 << 24])
    def test_of_cells_and_in_them_are_read(self, tmp_path, monkeypatch, rows, block):
        monkeypatch.setattr(quoting, "_BLOCK_BYTES", block)
        path = write(tmp_path / "x.csv", "\n".join(["user,item,title", *rows]) + "\n")
        assert ids(path) == [1, 3, 5]

    @examples(200)
    @given(
        cells=st.lists(st.lists(st.text('a",\n', max_size=5), min_size=3, max_size=3), min_size=1, max_size=6),
        block=st.integers(1, 9),
    )
    def test_as_the_csv_module_writes_them_are_never_lost(self, cells, block):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(cells)
        content = stream.getvalue().encode()
        never = delimited._rows_in_a_cell(",", 3, {"user": 0, "item": 1}, {"user": pa.int64(), "item": pa.int64()})
        old, quoting._BLOCK_BYTES = quoting._BLOCK_BYTES, block
        try:
            lines = any("\n" in cell for row in cells for cell in row)
            assert quoting.quoted_lines(io.BytesIO(content), 0, ",", never) == (None, lines)
        finally:
            quoting._BLOCK_BYTES = old

    @pytest.mark.parametrize("suffix", ["tsv", "inter"])
    def test_are_letters_between_tabs(self, tmp_path, suffix):
        content = 'user\titem\ttitle\n1\t2\t"5 inch\n3\t4\tx\n5\t6\t"y\n7\t8\t"z"\n'
        assert ids(write(tmp_path / f"x.{suffix}", content)) == [1, 3, 5, 7]
        content = 'user\titem\n"a\tx\n"b"\ty\nc"\tz\n'
        assert ids(write(tmp_path / f"x.{suffix}", content)) == ['"a', '"b"', 'c"']


NUMBERS = "column 'user' must hold integer or string ids, got "


class TestIds:
    @pytest.mark.parametrize(
        ("odd", "message"),
        [
            ("1.0", f"{NUMBERS}1.0"),
            ("2.5", f"{NUMBERS}2.5"),
            ("1e3", f"{NUMBERS}1e3"),
            ("+1", r"got \+1"),
            ("NULL", "column 'user' must have an id in every row, data row [0-9]+ has 'NULL' among integers"),
            ("nan", "has 'nan' among integers"),
            ("N/A", "has 'N/A' among integers"),
            ("None", "has 'None' among integers"),
            (r"\N", "among integers"),
            ("--", "has '--' among integers"),
            ("(null)", "among integers"),
            ("undefined", "among integers"),
            ("#REF!", "among integers"),
            ("-3", "must hold non-negative integer or string ids, data row [0-9]+ has -3"),
        ],
    )
    @pytest.mark.parametrize("early", [True, False])
    def test_that_would_be_two_are_refused_wherever_they_stand(self, tmp_path, odd, message, early):
        rows = [f"{row % 99},7" for row in range(20_000)]
        rows.insert(0 if early else len(rows), f"{odd},7")
        with pytest.raises(InputError, match=message):
            load_interactions(write(tmp_path / "x.csv", "\n".join(["user,item", *rows])))

    @pytest.mark.parametrize("odd", ["Total", "unknown", "1\u00a0", "1_000"])
    @pytest.mark.parametrize("early", [True, False])
    def test_that_are_strings_for_one_word_are_said(self, tmp_path, odd, early):
        users = ["1"] * 20_000
        users.insert(0 if early else len(users), odd)
        path = write(tmp_path / "x.csv", "\n".join(["user,item", *(f"{user},7" for user in users)]))
        row = users.index(odd) + 1
        with pytest.warns(UserWarning, match="the ids of column 'user' are strings, as one is no integer: '") as told:
            assert ids(path) == users
        assert str(told[0].message).endswith(f"{odd!r} in data row {row}")
        two = write(tmp_path / "y.csv", "\n".join(["user,item", *(f"{user},7" for user in [*users, "b"])]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ids(two)[-1] == "b"

    @pytest.mark.parametrize("word", ["nan", "NULL", "None", "<NA>", "(null)", "undefined"])
    def test_of_words_for_a_missing_one_are_said_in_every_table(self, tmp_path, word):
        frame = pa.table({"user": ["ann", word, "bob"], "item": [1, 2, 3]})
        for source in (frame, write(tmp_path / "x.csv", f"user,item\nann,1\n{word},2\nbob,3\n")):
            with pytest.warns(UserWarning, match="column 'user' has an id '.*', as programs write a missing one"):
                load_interactions(source)

    def test_that_blanks_alone_tell_apart_are_said(self, tmp_path):
        for content in ("user,item\nann,x\nann ,y\n", "user,item\nann,x\n ann,y\n"):
            with pytest.warns(UserWarning, match="column 'user' has ids that blanks alone tell apart: "):
                load_interactions(write(tmp_path / "x.csv", content))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ids(write(tmp_path / "x.csv", "user,item\nann ,x\nbob ,y\n")) == ["ann ", "bob "]

    @pytest.mark.parametrize("odd", ["a", "0x1F", "1_0", "99999999999999999999"])
    @pytest.mark.filterwarnings("ignore:.*as one is no integer")
    @pytest.mark.parametrize("early", [True, False])
    def test_are_strings_where_one_is_a_word_or_too_long(self, tmp_path, odd, early):
        users = [str(row % 99) for row in range(20_000)]
        users.insert(0 if early else len(users), odd)
        path = write(tmp_path / "x.csv", "\n".join(["user,item", *(f"{user},7" for user in users)]))
        assert ids(path) == users
        assert ids(path, "item") == [7] * len(users)

    @pytest.mark.filterwarnings("ignore:.*as programs write a missing one")
    def test_of_words_are_as_they_stand(self, tmp_path):
        assert ids(write(tmp_path / "x.csv", "user,item\na,1\nNULL,2\n1.0,3\n1,4\n")) == ["a", "NULL", "1.0", "1"]
        assert ids(write(tmp_path / "x.csv", "user,item\nNA,1\nnull,2\n")) == ["NA", "null"]
        assert ids(write(tmp_path / "x.csv", "user,item\n01,1\n 1,2\n1,3\n")) == [1, 1, 1]


class TestFiles:
    @pytest.mark.parametrize(
        "content",
        [
            '{"user": 1, "item": 2}\n{"user": 3, "item": 4}\n',
            '[{"user": 1, "item": 2}]',
            "<html><body>404, not found</body></html>\n",
            '<?xml version="1.0"?>\n<a>x, y</a>\n',
            "PAR1 a,b\nc,d\n",
            "user,item\n1,2\n\0\0\0,\0\n",
        ],
    )
    def test_of_another_format_are_refused(self, tmp_path, content):
        with pytest.raises(InputError, match="expected text separated by ',', got something else: "):
            load_interactions(write(tmp_path / "x.csv", content))

    @pytest.mark.parametrize("rows", [("1,2", "3,4"), ("a,b", "c,d")])
    def test_that_were_put_behind_one_another_are_refused(self, tmp_path, rows):
        parts = f"user,item\n{rows[0]}\n", f"user,item\n{rows[1]}\n"
        with pytest.raises(InputError, match="expected one header, and data row 2 is it once more"):
            load_interactions(write(tmp_path / "x.csv", "".join(parts)))

    @pytest.mark.parametrize("cell", ["1_0", "\u0663", "0x1F"])
    def test_hold_weights_as_every_program_reads_them(self, tmp_path, cell):
        with pytest.raises(
            InputError, match="column 'w' must hold finite non-negative numbers, data row 2 has no number"
        ):
            load_interactions(write(tmp_path / "x.csv", f"user,item,w\n1,2,3\n2,3,{cell}\n"), weight_column="w")

    def test_may_have_names_of_any_bytes(self, tmp_path):
        for name in ("x\udcff.csv", "x\udcff.csv.gz"):
            content = b"user,item\n1,2\n"
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
            assert ids(tmp_path / name) == [1]
        for name in ("x\udcff.parquet", "x\udcff.feather"):
            table = pa.table({"user": [1], "item": [2]})
            with pa.OSFile(os.fsencode(tmp_path / name), "wb") as file:
                (pyarrow.parquet.write_table if "parquet" in name else pyarrow.feather.write_feather)(table, file)
            assert ids(tmp_path / name) == [1]
        with pytest.raises(InputError, match="expected a file of interactions, but File name too long"):
            load_interactions(tmp_path / f"{'x' * 300}.csv")

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_ending_in_csv_are_divided_by_what_divides_them(self, tmp_path, delimiter):
        rows = [("user", "item", "price"), ("1", "2", "3.5"), ("3", "2", "1")]
        path = write(tmp_path / "x.csv", "\n".join(map(delimiter.join, rows)))
        assert ids(path) == [1, 3]

    @pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
    @pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.inter"])
    def test_may_be_compressed(self, tmp_path, suffix, packed, name):
        delimiter = "," if name == "x.csv" else "\t"
        rows = [("user", "item"), *((str(row), str(row % 9)) for row in range(20_000))]
        content = packed("\n".join(map(delimiter.join, rows)).encode())
        path = tmp_path / (name + suffix)
        path.write_bytes(content)
        assert ids(path) == list(range(20_000))
        for damaged in (content[: len(content) // 2], b"user,item\n1,2\n"):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=f"expected a {suffix} file, but it cannot be read"):
                load_interactions(path)

    def test_compressed_ones_have_their_quotes_checked(self, tmp_path):
        (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b'user,item,t\n1,2,"x\n3,4,y\n'))
        with pytest.raises(InputError, match="a cell in line 2 does not"):
            load_interactions(tmp_path / "x.csv.gz")
