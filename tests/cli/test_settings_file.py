"""Settings from a YAML file, and the file of settings beside every result."""

from __future__ import annotations

import json

import pytest
import yaml

from baco_gpu.data.synthetic import planted_coclusters


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    interactions, _, _ = planted_coclusters(200, 150, 2000, 10, noise=0.1, seed=3)
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    lines = (f"{user},{item}\n" for user, item in zip(interactions.users, interactions.items, strict=True))
    path.write_text("".join(lines))
    return path


@pytest.fixture
def config(tmp_path):
    def write(content):
        path = tmp_path / "settings.yml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_file_gives_settings_and_the_command_line_comes_first(baco, clicks, config):
    path = config("budget: 0.5\nseed: 3\nembedding_dim: 8\nsecondary: none\ngamma:\n")
    summary = json.loads(baco("compress", clicks, "--config", path, "--json")[1])
    assert 0.4 < summary["parameters_compressed"] / summary["parameters_full"] <= 0.5
    assert summary["secondary_users"] == 0
    expected = baco("compress", clicks, "--budget", 0.5, "--seed", 3, "--dim", 8, "--secondary", "none", "--json")[1]
    assert summary["labels_sha256"] == json.loads(expected)["labels_sha256"]
    overruled = json.loads(baco("compress", clicks, "--budget", 0.3, "--config", path, "--json")[1])
    assert overruled["parameters_compressed"] <= 0.3 * overruled["parameters_full"]


def test_flags_lists_and_the_data_itself_are_settings_too(baco, clicks, config):
    path = config(f"data: {clicks}\nmethods: [full, random]\nepochs: 1\ndim: 4\nmodel: mf\njson: true\n")
    code, stdout, stderr = baco("compare", "--config", path)
    assert (code, stderr) == (0, "")
    assert [row["method"] for row in json.loads(stdout)["table"]] == ["full", "random"]


def test_the_settings_beside_a_result_repeat_it(baco, clicks, tmp_path):
    first, again = tmp_path / "codes.safetensors", tmp_path / "again.safetensors"
    summary = json.loads(baco("compress", clicks, "--budget-rows", 90, "--seed", 5, "--out", first, "--json")[1])
    beside = tmp_path / "codes.settings.yml"
    settings = yaml.safe_load(beside.read_text())
    assert settings["data"] == str(clicks)
    assert (settings["budget-rows"], settings["seed"], settings["solver"]) == (90, 5, "multilevel")
    assert not {"out", "json", "config", "quiet"} & settings.keys()
    repeated = json.loads(baco("compress", "--config", beside, "--out", again, "--json")[1])
    assert repeated["labels_sha256"] == summary["labels_sha256"]
    assert yaml.safe_load((tmp_path / "again.settings.yml").read_text()) == settings


def test_a_table_of_labels_alone_has_its_settings_too(baco, clicks, tmp_path):
    assert baco("compress", clicks, "--labels", tmp_path / "labels.csv", "-q")[0] == 0
    assert yaml.safe_load((tmp_path / "labels.settings.yml").read_text())["data"] == str(clicks)


def test_settings_of_a_clustering_serve_a_training(baco, clicks, tmp_path):
    baco("compress", clicks, "--budget-rows", 90, "--dim", 8, "--out", tmp_path / "codes.safetensors", "-q")
    out = tmp_path / "model.safetensors"
    arguments = [
        "--config",
        tmp_path / "codes.settings.yml",
        "--method",
        "baco-multilevel",
        "--epochs",
        1,
        "--out",
        out,
        "--json",
    ]
    summary = json.loads(baco("train", *arguments)[1])
    assert summary["codebook_rows"] in (89, 90)
    assert yaml.safe_load((tmp_path / "model.settings.yml").read_text())["epochs"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 3\n", "train has no setting 'epoch' (did you mean 'epochs'?)"),
        ("x: 3\n", "train has no setting 'x'; the command takes backend, "),
        ("config: other.yml\n", "train has no setting 'config'"),
        ("epochs: many\n", "settings.yml: epochs: Input should be a valid integer"),
        ("epochs: many\n", ", got 'many'"),
        ("epochs: true\n", "epochs must be one value, got True"),
        ("epochs: {a: 1}\n", "epochs must be one value, got {'a': 1}"),
        ("quiet: 3\n", "quiet must be true or false, got 3"),
        ("0.25\n", "expected lines such as 'budget: 0.25', got 0.25"),
        ("budget: [0.25\nbad: 1", "expected a YAML file of settings, but in line 2 "),
        ("budget: \x01\n", "expected a YAML file of settings, but it is no YAML"),
        (b"\xff\xfe\xff", "expected a YAML file of settings in UTF-8"),
        ("epochs: 0\n", "epochs must be an integer from 1 to 2147483647, got 0"),
    ],
)
def test_wrong_settings_are_named(baco, clicks, config, content, message):
    code, stdout, stderr = baco("train", clicks, "--config", config(content), "--json")
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_missing_file_of_settings_is_named(baco, clicks, config):
    code, _, stderr = baco("compress", clicks, "--config", "nowhere.yml")
    assert code == 2
    assert "nowhere.yml: expected a YAML file of settings, but it cannot be read (No such file" in stderr
    assert baco("compress", clicks, "--config", config(""), "--json")[0] == 0


DOUBLING = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'])}]\n" for n in range(6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DOUBLING, "expected settings of at most 65,536 letters, aliases written out, got more"),
        ("budget: 0.5\n# " + "x" * 65_536, "expected settings of at most 65,536 letters"),
        ("secondary: " + "[" * 9 + "]" * 9, "expected settings at most 8 levels deep, line 1 goes deeper"),
        ("budget: 0.5\nbudget: 0.3", "expected every setting once, got 'budget' 2 times"),
        ("seed: 1:30", "expected numbers in tens, line 1 has '1:30'"),
        ("seed: 010", "expected numbers in tens, line 1 has '010'"),
        ("x:\n  - &a [*a]\n", "in line 2 'a' holds itself"),
        ("seed: " + "9" * 101, "expected numbers of at most 100 digits, line 1 has one of 101 letters"),
        ("seed: 0x" + "9" * 101, "expected numbers of at most 100 digits"),
        ("seed: 1" + ":59" * 60, "expected numbers of at most 100 digits"),
        ("seed: 2020-13-40", "expected a YAML file of settings, but month must be in 1..12"),
        ("seed: !!int x", "expected a YAML file of settings, but "),
        ("seed: !!bool x", "expected a YAML file of settings, but "),
    ],
)
def test_settings_that_would_grow_without_bound_are_refused_before_any_is_built(
    baco, clicks, config, monkeypatch, content, message
):
    path, built = config(content), []
    build = yaml.SafeLoader.get_single_data
    monkeypatch.setattr(yaml.SafeLoader, "get_single_data", lambda loader: built.append(path) or build(loader))
    code, stdout, stderr = baco("compress", clicks, "--config", path)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"baco: error: {path}: ")
    assert message in stderr
    assert bool(built) == message.startswith("expected a YAML file")


def test_aliases_that_stay_small_are_taken(baco, clicks, config):
    path = config("seed: &n 3\nembedding_dim: *n\nbudget: 0.5\n")
    code, stdout, stderr = baco("compress", clicks, "--config", path, "--json")
    assert (code, json.loads(stdout)["seed"], json.loads(stdout)["embedding_dim"]) == (0, 3, 3), stderr


def test_a_setting_in_two_spellings_is_refused(baco, clicks, config):
    code, _, stderr = baco("compress", clicks, "--config", config("budget-rows: 5\nbudget_rows: 6\n"))
    assert code == 2
    assert "expected every setting once, got 'budget_rows' again" in stderr
