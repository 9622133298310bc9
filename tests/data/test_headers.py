"""Which columns of a table are users and items: names decide, in every kind of table; what they leave open is said."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering

KINDS = ("csv", "semicolons", "tsv", "parquet", "feather", "arrow", "pandas", "polars", "lazy", "pyarrow", "batch")


def made(kind: str, frame: pd.DataFrame, folder: Path) -> Any:
    """The frame as a table of another kind."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    path = folder / f"x.{'csv' if kind == 'semicolons' else kind}"
    if kind in ("csv", "semicolons", "tsv"):
        frame.to_csv(path, index=False, sep={"csv": ",", "semicolons": ";", "tsv": "\t"}[kind])
        return path
    if kind == "parquet":
        pq.write_table(table, path)
        return path
    if kind in ("feather", "arrow"):
        pyarrow.feather.write_feather(table, path)
        return path
    frames = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_arrow(table),
        "lazy": lambda: pl.from_arrow(table).lazy(),
        "pyarrow": lambda: table,
        "batch": lambda: table.to_batches()[0],
    }
    return frames[kind]()


def pairs(read: Interactions) -> list[tuple]:
    """The raw ids of all interactions."""
    assert read.user_vocabulary is not None
    assert read.item_vocabulary is not None
    sides = (read.user_vocabulary.decode(read.users), read.item_vocabulary.decode(read.items))
    return list(zip(*(side.tolist() for side in sides), strict=True))


def named(*names: str) -> pd.DataFrame:
    """Three rows of ids below these names: a1, b1, ...; a2, b2, ..."""
    return pd.DataFrame({name: [f"{chr(97 + at)}{row}" for row in (1, 2, 3)] for at, name in enumerate(names)})


NAMES = [
    ("user", "item"),
    ("item", "user"),
    ("t_dat", "customer_id", "article_id", "price", "sales_channel_id"),
    ("CustomerID", "StockCode"),
    ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "Customer ID", "Country"),
    ("customer-id", "event", "product.id"),
    ("reviewerID", "asin", "overall", "unixReviewTime"),
    ("userId", "movieId", "rating", "timestamp"),
    ("timestamp", "visitorid", "event", "itemid", "transactionid"),
    ("event_time", "event_type", "product_id", "category_id", "brand", "user_id", "user_session"),
    ("event_id", "account", "track_name"),
    ("id", "uid", "iid"),
    ("ISBN", "User-ID", "Book-Rating"),
    ("user_id", "user_name", "item_id", "item_name"),
    ("SESSION", "SKU"),
    ("index", "member", "song"),
    ("who", "what", "when"),
    ("n", "client_id", "business_id"),
    ("device", "user_id", "app", "item_id", "page"),
]
USERS = ("user", "item", "customer_id", "CustomerID", "Customer ID", "customer-id", "reviewerID", "userId", "visitorid")


class TestNames:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("names", NAMES, ids="-".join)
    def test_decide(self, tmp_path, kind, names):
        known = {"user", "customer", "reviewer", "visitor", "account", "uid", "member", "session", "who", "client"}
        frame = named(*names)
        read = load_interactions(made(kind, frame, tmp_path))
        assert read.columns is not None
        user, item = read.columns["user"], read.columns["item"]
        assert any(word in user.lower() for word in known)
        assert not any(word in item.lower() for word in known)
        assert pairs(read) == list(zip(frame[user], frame[item], strict=True))

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_names_stand_for_what_is_left(self, tmp_path, kind):
        read = load_interactions(made(kind, named("date", "buying", "rating", "thing", "index"), tmp_path))
        assert read.columns == {"user": "buying", "item": "thing"}
        beside = load_interactions(made(kind, named("rating", "customer", "thing"), tmp_path))
        assert beside.columns == {"user": "customer", "item": "thing"}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (("user_id", "session_id", "item_id"), "one column of users, and it could be 'user_id', 'session_id' (say"),
            (
                ("user", "track", "artist"),
                "one column of items, and it could be 'track', 'artist' (say which: --item-col",
            ),
            (("a", "b", "c"), "a column of users and a column of items, and no name says which of 'a', 'b', 'c' it is"),
            (("user", "b", "c"), "expected a column of items, and no name says which of 'user', 'b', 'c' it is"),
            (("event_id", "item"), "expected a column of users, and no name says which of 'event_id', 'item' it is"),
            (("date", "count"), "expected a column of users and a column of items, and no name says"),
            (("user_age", "item_price"), "no name says which of 'user_age', 'item_price' it is"),
            (("num_users", "num_items"), "no name says which of 'num_users', 'num_items' it is"),
            (("user_id", "gender"), "expected a column of items, and no name says which of 'user_id', 'gender'"),
        ],
    )
    def test_that_leave_it_open_are_refused(self, tmp_path, kind, names, message):
        source = made(kind, named(*names), tmp_path)
        with pytest.raises(InputError) as caught:
            load_interactions(source)
        assert message in str(caught.value)
        assert "_column=" in str(caught.value)
        assert "\n" not in str(caught.value)
        first, last = names[0], names[-1]
        assert load_interactions(source, user_column=first, item_column=last).columns == {"user": first, "item": last}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("names", "user"), [(("i", "j"), "i"), (("i", "u"), "u"), (("u", "i"), "u")])
    def test_of_one_letter_are_those_of_a_matrix_or_of_the_sides(self, tmp_path, kind, names, user):
        read = load_interactions(made(kind, named(*names), tmp_path))
        assert read.columns is not None
        assert read.columns["user"] == user

    def test_say_where_ratings_and_times_stand(self, tmp_path):
        frame = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2], "Stars": [5, 1, 4], "t_dat": ["2026-01-01"] * 3})
        for kind in KINDS:
            source = made(kind, frame, tmp_path)
            assert len(load_interactions(source, min_rating=4)) == 2
            read = load_interactions(source, weighting="recency", half_life=10)
            assert read.columns == {"user": "user", "item": "item", "timestamp": "t_dat"}
            assert load_split(source, split="temporal").train.columns == read.columns
            with pytest.raises(InputError, match="expected a column 'rating', the columns are 'user', 'item', 'Stars'"):
                load_interactions(source, min_rating=4, rating_column="rating")
        both = frame.assign(score=[1, 2, 3])
        with pytest.raises(
            InputError, match=r"one column of ratings, and it could be 'Stars', 'score' .*--rating-column"
        ):
            load_interactions(both, min_rating=4)

    def test_that_two_columns_have_are_refused(self, tmp_path):
        (tmp_path / "x.csv").write_text("user,user,item\n1,2,3\n")
        with pytest.raises(InputError, match="expected columns of different names, got 'user' 2 times"):
            load_interactions(tmp_path / "x.csv")

    def test_of_a_typed_header_decide_where_the_usual_ones_are_missing(self, tmp_path):
        (tmp_path / "x.inter").write_text("brand:token\tproduct:token\tcustomer:token\nb\tp\tc\n")
        assert pairs(load_interactions(tmp_path / "x.inter")) == [("c", "p")]
        (tmp_path / "x.inter").write_text("a:token\tb:token\tc:token\n1\t2\t3\n")
        with pytest.raises(InputError, match="no name says which of 'a', 'b', 'c' it is"):
            load_interactions(tmp_path / "x.inter")


class TestIndexes:
    clicks = pd.DataFrame({"user": [7, 7, 8], "item": [1, 3, 2]})

    @pytest.mark.parametrize("names", [("user", "item"), ("left", "right"), (0, 1)])
    def test_written_by_pandas_are_no_users(self, tmp_path, names):
        frame = self.clicks.set_axis(list(names), axis=1)
        frame.to_csv(tmp_path / "x.csv")
        assert pairs(load_interactions(tmp_path / "x.csv")) == [(7, 1), (7, 3), (8, 2)]
        frame.to_csv(tmp_path / "x.csv", index_label="Unnamed: 0")
        assert pairs(load_interactions(tmp_path / "x.csv")) == [(7, 1), (7, 3), (8, 2)]
        frame = frame.set_axis([str(name) for name in names], axis=1)
        for index in (pd.Index([5, 9, 4]), pd.Index([5, 9, 4], name="visit")):
            frame.set_axis(index).to_parquet(tmp_path / "x.parquet")
            assert pairs(load_interactions(tmp_path / "x.parquet")) == [(7, 1), (7, 3), (8, 2)]
            assert pairs(load_interactions(frame.set_axis(index))) == [(7, 1), (7, 3), (8, 2)]

    def test_of_pandas_count_by_name(self, tmp_path):
        counted = self.clicks.groupby(["user", "item"]).size().to_frame("n")
        assert pairs(load_interactions(counted)) == [(7, 1), (7, 3), (8, 2)]
        assert pairs(load_interactions(self.clicks.set_index("user"))) == [(7, 1), (7, 3), (8, 2)]
        counted.to_parquet(tmp_path / "x.parquet")
        assert pairs(load_interactions(tmp_path / "x.parquet")) == [(7, 1), (7, 3), (8, 2)]
        weights = load_interactions(counted, weight_column="n").weights
        assert weights is not None
        assert weights.tolist() == [1, 1, 1]

    def test_a_column_that_nobody_asked_for_may_hold_anything(self):
        frame = self.clicks.assign(other=[1, "x", None])
        assert pairs(load_interactions(frame)) == [(7, 1), (7, 3), (8, 2)]
        asked = pl.from_pandas(self.clicks).with_columns(pl.Series("other", [object()] * 3))
        assert pairs(load_interactions(asked)) == [(7, 1), (7, 3), (8, 2)]


class TestMatrices:
    ratings = pd.DataFrame({"user": [1, 2, 3, 4], "item": [1, 2, 1, 3], "rating": [5, 3, 4, 1]})
    message = "expected .*: BipartiteGraph.from_dense takes its values"

    @pytest.mark.parametrize("items", [1, 2, 3])
    def test_are_no_tables_of_pairs(self, tmp_path, items):
        few = self.ratings[self.ratings["item"] <= items]
        matrix = few.pivot(index="user", columns="item", values="rating").fillna(0).astype(int)
        crossed = pd.crosstab(few["user"], few["item"])
        for frame in (matrix, crossed, *([matrix.rename_axis(None)] if items > 1 else [])):
            with pytest.raises(InputError, match=self.message):
                load_interactions(frame)
            with pytest.raises(InputError, match=self.message):
                BalancedCoclustering(budget=3).fit(frame)
        if items > 1:
            matrix.to_csv(tmp_path / "x.csv")
            for source in (tmp_path / "x.csv", pl.read_csv(tmp_path / "x.csv")):
                with pytest.raises(InputError, match=self.message):
                    load_interactions(source)

    def test_of_two_items_have_ids_for_names(self, tmp_path):
        two = pd.DataFrame({17: [1, 0, 2], 42: [0, 3, 0]})
        two.rename(columns=str).to_parquet(tmp_path / "x.parquet")
        for source in (two, two.rename(columns=str), pl.from_pandas(two.rename(columns=str)), tmp_path / "x.parquet"):
            with pytest.raises(InputError, match=self.message):
                load_interactions(source)
        assert pairs(load_interactions(two, user_column="17", item_column="42")) == [(1, 0), (0, 3), (2, 0)]
        assert len(load_interactions(pd.DataFrame(two.to_numpy()))) == 3  # an array of pairs

    def test_of_two_words_are_refused_beside_an_index_of_words(self):
        two = pd.DataFrame({"apple": [1, 0, 2], "pear": [0, 3, 0]}, index=["ann", "bob", "cleo"])
        for frame in (two, two.rename_axis(None), two.astype(float)):
            with pytest.raises(InputError, match=self.message):
                load_interactions(frame)
        assert len(load_interactions(two, user_column="apple", item_column="pear")) == 3
        numbered = two.reset_index(drop=True)
        assert len(load_interactions(numbered)) == len(load_interactions(numbered[1:])) + 1 == 3
        named = two.rename(columns={"apple": "user_id"})
        assert len(load_interactions(named)) == 3

    def test_of_numbers_alone_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=self.message):
            load_interactions(pd.DataFrame(np.eye(3, dtype=int)))
        np.savetxt(tmp_path / "x.csv", np.eye(6), delimiter=",", fmt="%d")
        with pytest.raises(
            InputError, match=f"a rating and a time, or a header, got 6 numbers a line .*{self.message[9:]}"
        ):
            load_interactions(tmp_path / "x.csv")

    @pytest.mark.parametrize(
        "lines",
        [
            [f"{user} {100 + user % 3} {1 + user % 5}" for user in range(1, 60)],
            [f"{user // 2} {user} {user % 5}" for user in range(6)],
            ["1 20 978300760", "2 30 978300761"],
            [f"{user} {user % 7} 3 {978300760 + user}" for user in range(9)],
        ],
    )
    def test_lines_of_user_item_and_rating_are_no_lists_of_items(self, tmp_path, lines):
        (tmp_path / "x.txt").write_text("\n".join(lines))
        with pytest.raises(InputError, match=r"these look like a user, an item and a rating or a time .*as a \.csv"):
            load_interactions(tmp_path / "x.txt")

    @pytest.mark.parametrize(
        "lines",
        [
            [f"{user} {user + 40} {user % 12}" for user in range(8)],
            [f"{user} {user % 11} {(user + 3) % 11}" for user in range(60)],
            [f"{user} {user} {user + 1}" for user in range(60)],
            ["0 500000000 500000001", "1 500000000 600000000"],
            ["0 1", "1 2", "1 3"],
        ],
    )
    def test_lists_of_two_items_each_are_read(self, tmp_path, lines):
        (tmp_path / "x.txt").write_text("\n".join(lines))
        assert len(load_interactions(tmp_path / "x.txt")) == sum(line.count(" ") for line in lines)


class TestFirstLines:
    @pytest.mark.parametrize(
        ("content", "users"),
        [
            ("CustomerID,StockCode\nc1,s1\nc2,s2\n", ["c1", "c2"]),
            ("Kunde,Artikel\nk1,a1\nk2,a2\n", ["k1", "k2"]),
            ("member,sku\nann,hat\n", ["ann"]),
            ("thing,reader_id\nhat,ann\n", ["ann"]),
            ("abc,1\n123,2\n", ["abc", "123"]),
            ("ann,hat1\nbob,hat2\n", ["ann", "bob"]),
            ("ann,book\nbob,movie\n", ["ann", "bob"]),
            ("ann,hat\nbob,7\n", ["bob"]),
        ],
    )
    def test_are_headers_by_their_words_and_by_what_is_below(self, tmp_path, content, users):
        (tmp_path / "x.csv").write_text(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert [user for user, _ in pairs(load_interactions(tmp_path / "x.csv"))] == users

    def test_of_words_above_words_are_interactions_and_that_is_said(self, tmp_path):
        (tmp_path / "x.csv").write_text("Kunde,Artikel\nanna,buch\nbernd,stuhl\n")
        with pytest.warns(
            UserWarning, match="no header was found, and 'Kunde' with 'Artikel' is the first interaction"
        ):
            assert len(load_interactions(tmp_path / "x.csv")) == 3
        assert len(load_interactions(tmp_path / "x.csv", user_column="Kunde")) == 2
        (tmp_path / "x.csv").write_text("0,7,1\n1,7,3\n2,8,2\n")
        with pytest.warns(
            UserWarning, match=r"no header was found, and the users of the first rows are 0, 1, 2, \.\.\."
        ):
            assert len(load_interactions(tmp_path / "x.csv")) == 3
        (tmp_path / "x.csv").write_text("anna,buch\nbernd,stuhl\nanna,stuhl\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(load_interactions(tmp_path / "x.csv")) == 3

    @pytest.mark.parametrize(
        "content",
        [
            "100,7,1\n101,7,3\n102,8,2\n",  # a part of a file whose rows are numbered
            "1433221332,7,1\n1433221339,7,3\n1433221332,8,2\n",
            "1433221332000,7,1\n1433221339000,7,3\n1433221332000,8,2\n",
            "20180907,7,1\n20180908,7,3\n20180907,8,2\n",
        ],
    )
    def test_that_number_rows_or_times_are_said(self, tmp_path, content):
        (tmp_path / "x.csv").write_text(content)
        with pytest.warns(UserWarning, match=r"no header was found, and the users of the first rows are "):
            load_interactions(tmp_path / "x.csv")
        (tmp_path / "x.csv").write_text(
            "".join(f"{b},{a},{c}\n" for a, b, c in (row.split(",") for row in content.split()))
        )
        with pytest.warns(UserWarning, match=r"no header was found, and the items of the first rows are "):
            load_interactions(tmp_path / "x.csv")

    @pytest.mark.parametrize(
        ("content", "column"),
        [
            ("2018-09-20,a1,b1\n", 1),
            ("a1,2018-09-20 10:00:00\n", 2),
            ("20/09/2018,a1,b1\n", 1),
            ("a1,20.9.18 10:00,b1\n", 2),
            ("10:15:00,a1,b1\n", 1),
        ],
    )
    def test_without_a_header_begin_with_ids(self, tmp_path, content, column):
        (tmp_path / "x.csv").write_text(content * 2)
        with pytest.raises(InputError, match=f"got dates such as '.*' in column {column} .name the columns in"):
            load_interactions(tmp_path / "x.csv")


def test_reading_says_which_columns_it_took(baco, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("t_dat,customer_id,article_id\n2018-09-20,a,1\n2018-09-20,b,2\n")
    seen: list[str] = []
    read = load_interactions(path, progress=lambda phase, done, total, note: seen.append(note))
    assert seen[-1] == "2 interactions, users from 'customer_id', items from 'article_id'"
    assert read.columns == read.take(np.array([0])).columns == {"user": "customer_id", "item": "article_id"}
    assert (
        "columns       users from 'customer_id', items from 'article_id'\n" in baco("data", "describe", path, "-q")[1]
    )
    assert json.loads(baco("data", "describe", path, "--json")[1])["columns"] == read.columns
    code, stdout, stderr = baco("data", "describe", path, "--item-column", "customer_id", "--json")
    assert (code, stdout) == (2, "")
    assert "users and items must be different columns, got 'customer_id' for both" in stderr

    @pytest.mark.parametrize("corner", ["shopper", "index", "Unnamed: 0", "id", "user/movie", "user_id\\item_id", "u7"])
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("items", [2, 3, 20])
    def test_whose_items_have_numbers_are_no_lines_without_a_header(self, tmp_path, corner, separator, items):
        cells = [[*map(str, range(1193, 1193 + items))], *([str(row), "", *"0" * items][:items] for row in range(5))]
        path = tmp_path / ("x.tsv" if separator == "\t" else "x.csv")
        for users in ("abcde", "12345"):
            lines = zip([corner, *users], cells, strict=True)
            path.write_text("\n".join(separator.join([user, *row]) for user, row in lines))
            if corner == "u7" and users == "abcde" and items < 4:  # nothing tells it from users, items and ratings
                continue
            with pytest.raises(InputError, match=r"expected .* (name all columns in the first line|from_dense)"):
                load_interactions(path)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("names", [("item_1", "item_2"), ("movie_17", "movie_42"), ("1193.0", "661.0")])
    def test_of_two_items_are_refused_by_names_that_say_items(self, tmp_path, kind, names):
        table = made(kind, pd.DataFrame({name: [3, 0, 1] for name in names}), tmp_path)
        if names[0][0].isalpha() or kind not in ("csv", "semicolons", "tsv"):  # where numbers are a first line of cells
            with pytest.raises(InputError, match=self.message):
                load_interactions(table)
