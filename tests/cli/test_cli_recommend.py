"""baco recommend, from a file that baco train wrote to answers in a terminal, a table or a stream."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from baco_gpu import load_recommender
from baco_gpu.data.synthetic import planted_coclusters

pytestmark = pytest.mark.heavy("runs commands")


@pytest.fixture(scope="module", params=["integers", "strings"])
def model(request, tmp_path_factory):
    """A trained model, and a user of it."""
    clicks, _, _ = planted_coclusters(120, 80, 1500, 6, seed=3)
    folder = tmp_path_factory.mktemp("model")
    users = clicks.users + 7 if request.param == "integers" else [f"u{number}" for number in clicks.users]
    pd.DataFrame({"user": users, "item": clicks.items}).to_csv(folder / "clicks.csv", index=False)
    from baco_gpu.cli.main import main

    command = ["train", str(folder / "clicks.csv"), "--epochs", "1", "--dim", "8", "-q"]
    assert main([*command, "--out", str(folder / "model.safetensors")]) == 0
    return folder / "model.safetensors", "9" if request.param == "integers" else "u9"


def test_answers_are_printed_and_written_as_they_are_in_python(baco, model, tmp_path, monkeypatch):
    path, user = model
    known = load_recommender(path)
    expected = known.recommend([int(user) if user.isdecimal() else user], 3)
    code, stdout, _ = baco("recommend", path, "--user", user, "--k", 3, "--json")
    assert code == 0
    (answer,) = json.loads(stdout)["recommendations"]
    assert str(answer["user"]) == user
    assert answer["items"] == expected["item"].tolist()
    assert answer["scores"] == pytest.approx(expected["score"].tolist())
    for item in expected["item"]:
        assert str(item) in baco("recommend", path, "--user", user, "--k", 3)[1]

    monkeypatch.setattr("baco_gpu.cli.recommend._AT_ONCE", 50)
    everybody = known.recommend(known.user_ids, 4, exclude_seen=False)
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"answers{suffix}"
        code, stdout, stderr = baco("recommend", path, "--all-users", "--k", 4, "--include-seen", "--out", out)
        assert code == 0
        assert f"{4 * len(known.user_ids)} answers for {len(known.user_ids)} users" in stdout
        assert "recommending" in stderr
        pd.testing.assert_frame_equal(read(out), everybody, check_dtype=False)
    assert json.loads(baco("recommend", path, "--all-users", "--out", tmp_path / "a.csv", "--json")[1])["answers"] == (
        20 * len(known.user_ids)
    )


def test_users_come_from_a_file(baco, model, tmp_path):
    path, user = model
    users = tmp_path / "users.txt"
    users.write_text(f"{user}\n\n{user}\n")
    code, stdout, _ = baco("recommend", path, "--users-from", users, "--k", 2)
    assert code == 0
    assert stdout.count(f"\n {user} ") == 4 or stdout.count(user) == 4


def test_mistakes_end_in_one_line(baco, model, tmp_path):
    path, user = model
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    unknown = "9999" if user.isdecimal() else "stranger"
    cases = [
        ((), "give one of --user, --users-from, --all-users, got none"),
        (("--user", user, "--all-users"), "got --user and --all-users"),
        (
            ("--user", user, "--user", unknown),
            f"users: unknown raw ids: {int(unknown) if user.isdecimal() else unknown!r}",
        ),
        (("--users-from", tmp_path / "none.txt"), "none.txt: expected a text file of users, but it cannot be read"),
        (("--users-from", empty), "empty.txt: expected a user a line, got none"),
        (("--users-from", binary), "binary.txt: expected a text file of users in UTF-8"),
        (("--user", user, "--out", tmp_path / "a.xls"), "ends in .parquet or .csv, got '.xls'"),
        (("--user", user, "--k", 0), "--k"),
    ]
    if user.isdecimal():
        cases.append((("--user", "ann"), "users of this model are integers, got 'ann'"))
    for arguments, message in cases:
        code, stdout, stderr = baco("recommend", path, *arguments)
        assert (code, stdout) == (2, "")
        assert message in stderr
        assert stderr.count("\n") == 1
    assert not (tmp_path / "a.xls").exists()
    code, _, stderr = baco("recommend", tmp_path / "clicks.csv", "--user", user)
    assert code == 2
    assert "expected one written by baco train --out" in stderr


def test_items_are_called_by_their_names(baco, model, tmp_path):
    path, user = model
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n" + "".join(f'{item},"Film {item}, The",Drama\n' for item in range(40)), encoding="utf-8"
    )
    (answer,) = json.loads(baco("recommend", path, "--user", user, "--names", tmp_path, "--json")[1])["recommendations"]
    assert answer["names"] == [f"Film {item}, The" if item < 40 else "" for item in answer["items"]]
    assert f"Film {min(answer['items'])}, The" in baco("recommend", path, "--user", user, "--names", tmp_path)[1]
    (tmp_path / "movies.csv").unlink()
    code, stdout, stderr = baco("recommend", path, "--user", user, "--names", tmp_path)
    assert (code, stdout) == (2, "")
    assert "--names" in stderr
    assert "expected names of items beside the interactions, and there are none" in stderr
