"""Data on the command line: what is chosen from it, how it is split, converted, described and fetched."""

from __future__ import annotations

import json

import numpy as np
import pytest

from baco_gpu.data.synthetic import planted_coclusters

pytestmark = pytest.mark.heavy("runs commands")


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """4,000 ratings with timestamps in the layout of MovieLens."""
    interactions, _, _ = planted_coclusters(200, 150, 4000, 10, noise=0.1, seed=3)
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "ratings.dat"
    columns = (interactions.users + 1, interactions.items + 1, rng.integers(1, 6, len(interactions)))
    lines = zip(*columns, rng.permutation(len(interactions)), strict=True)
    path.write_text("".join(f"{user}::{item}::{rating}::{time}\n" for user, item, rating, time in lines))
    return path


def test_compress_takes_what_is_chosen(baco, ratings):
    def edges(*options):
        return json.loads(baco("compress", ratings, "--json", *options)[1])["num_edges"]

    whole = edges()
    assert edges("--min-rating", 4) < 0.6 * whole
    assert 0 < edges("--min-rating", 4, "--core", 5) < edges("--min-rating", 4)
    assert edges("--weighting", "recency", "--half-life", 1000) == whole
    assert edges("--split", "temporal") == pytest.approx(0.8 * whole, abs=1)


@pytest.mark.parametrize("split", ["random", "leave-last-out", "temporal"])
def test_codes_of_a_split_serve_the_training_on_it(baco, ratings, tmp_path, split):
    codes = tmp_path / "codes.safetensors"
    common = ["--split", split, "--dim", 8, "--seed", 2]
    assert baco("compress", ratings, "--out", codes, "-q", *common)[0] == 0
    code, stdout, stderr = baco("train", ratings, "--codes", codes, "--model", "mf", "--epochs", 1, "--json", *common)
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["epochs"] == 1
    code, _, stderr = baco("train", ratings, "--codes", codes, "--epochs", 1, "--dim", 8, "--json")
    assert (code, "another graph" in stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--core", "1000"], "core must leave something, and no users and items have 1000 interactions"),
        (["--weighting", "recency"], "half_life must be given for weighting 'recency'"),
        (["--min-rating", "9"], "min_rating must leave a rating, got 9, and the highest is 5"),
        (["--timestamp-column", "when"], "expected a column 'when', the columns are 'user', 'item', 'rating', 'timest"),
        (["--split", "last"], "split must be one of 'random', 'leave-last-out', 'temporal', got 'last'"),
    ],
)
def test_wrong_choices_are_named(baco, ratings, options, message):
    code, stdout, stderr = baco("compress", ratings, "--json", *options)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert message in stderr


def test_describe_prints_figures_and_draws_degrees(baco, ratings, tmp_path):
    picture = tmp_path / "degrees.png"
    figures = json.loads(baco("data", "describe", ratings, "--plot", picture, "--json")[1])
    assert (figures["num_users"], figures["num_items"]) == (200, 150)
    assert figures["user_degrees"]["max"] > figures["user_degrees"]["median"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, stdout, _ = baco("data", "describe", ratings, "--timestamp-column", "timestamp", "-q")
    assert code == 0
    assert all(word in stdout for word in ("density", "components", "median", "gini", "timestamps    0 to "))


def test_convert_says_what_it_wrote_and_what_it_left_out(baco, ratings, tmp_path):
    out = tmp_path / "clicks.npz"
    options = ["--min-rating", 3, "--split", "leave-last-out"]
    code, stdout, stderr = baco("data", "convert", ratings, out, *options, "-q")
    assert code == 0
    assert stdout.startswith(f"{out}: ")
    assert stderr == "note: an .npz file holds no timestamps: they are left out\n"
    table = tmp_path / "clicks.parquet"
    written = json.loads(baco("data", "convert", out, table, "--json")[1])
    assert written["left_out"] == []
    again = json.loads(baco("data", "describe", table, "--json")[1])
    assert again["num_interactions"] == written["num_interactions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "RATINGS", "--plot", "degrees.pdf"], "expected a name that ends in .png, got '.pdf'"),
        (["convert", "RATINGS", "x.npz"], "an .npz file and a folder hold a split, and these interactions have none"),
        (["convert", "RATINGS", "RATINGS"], "expected another name than that of DATA, got the same"),
        (["convert", "nowhere.csv", "x.parquet"], "nowhere.csv: expected a file of interactions"),
        (["convert", "RATINGS"], "Missing argument 'OUT'"),
        (["measure", "RATINGS"], "No such command 'measure'"),
    ],
)
def test_mistakes_with_data_end_in_one_line(baco, ratings, arguments, message):
    code, stdout, stderr = baco("data", *(str(ratings) if word == "RATINGS" else word for word in arguments))
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert message in stderr


@pytest.mark.parametrize("command", ["describe", "convert", "fetch"])
def test_help_of_data_commands_has_an_example(baco, command):
    assert f"\n   baco data {command}" in baco("data", command, "--help")[1]
    assert f"\n   baco data {command}" in baco("data", "--help")[1]
