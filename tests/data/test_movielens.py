"""MovieLens-100K is read where an installed package carries it, and its absence is explained."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path, PurePosixPath

import pytest

from baco_gpu.data.movielens import movielens_100k, movielens_100k_path
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.errors import MissingExtraError


@pytest.fixture
def installed() -> None:
    try:
        movielens_100k_path()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("installed")
def test_all_ratings_are_interactions() -> None:
    interactions = movielens_100k()
    assert (len(interactions), interactions.num_users, interactions.num_items) == (100_000, 943, 1_682)
    assert interactions.weights is None
    assert interactions.user_vocabulary is not None
    assert interactions.item_vocabulary is not None
    assert interactions.user_vocabulary.decode([0, 942]).tolist() == [1, 943]
    assert interactions.user_vocabulary.decode(interactions.users[0]) == 196
    assert interactions.item_vocabulary.decode(interactions.items[0]) == 242


@pytest.mark.usefixtures("installed")
def test_ratings_may_be_weights() -> None:
    weights = movielens_100k(weights=True).weights
    assert weights is not None
    assert sorted(set(weights.tolist())) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("installed")
def test_its_name_stands_for_a_path() -> None:
    assert len(load_interactions("movielens-100k")) == 100_000
    assert len(load_split("movielens-100k").test) == 10_000


def test_a_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(MissingExtraError, match=r"install it: pip install --no-deps recbole==1\.2\.1"):
        movielens_100k()


@pytest.mark.parametrize("listed", [None, ["recbole/__init__.py"], ["recbole/dataset_example/ml-100k/ml-100k.inter"]])
def test_a_package_without_the_file_is_explained(monkeypatch: pytest.MonkeyPatch, listed: list[str] | None) -> None:
    class Listed(PurePosixPath):
        def locate(self) -> Path:
            return Path("/nowhere", self)

    monkeypatch.setattr(importlib.metadata, "files", lambda name: listed and [Listed(path) for path in listed])
    with pytest.raises(MissingExtraError, match="not in the installed package"):
        movielens_100k()
