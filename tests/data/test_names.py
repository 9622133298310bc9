"""Names of items come from beside the interactions."""

from __future__ import annotations

import pytest

from baco_gpu.data.names import item_names
from baco_gpu.errors import InputError

FILES = {
    "movies.csv": 'movieId,title,genres\n1,"Toy Story, a film (1995)",x\n20,Heat,y\n',
    "movies.dat": "1::Toy Story, a film (1995)::x\n20::Heat::y\n",
    "u.item": "1|Toy Story, a film (1995)|01-Jan-1995||x\n20|Heat|y\n",
}


@pytest.mark.parametrize("name", FILES)
def test_titles_of_films_are_read_by_id(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    (tmp_path / "ratings.dat").write_text("1::20::5::978300760\n")
    expected = {1: "Toy Story, a film (1995)", 20: "Heat"}
    assert item_names(tmp_path) == item_names(tmp_path / "ratings.dat") == expected


def test_movielens_100k_has_titles():
    names = item_names("movielens-100k")
    assert len(names) == 1682
    assert names[50] == "Star Wars"


def test_other_sets_have_none_and_mistakes_are_named(tmp_path):
    (tmp_path / "clicks.csv").write_text("user,item\n1,2\n")
    assert item_names(tmp_path / "clicks.csv") == {}
    with pytest.raises(InputError, match="nowhere: expected interactions, and there are none"):
        item_names("nowhere")
    (tmp_path / "movies.dat").write_text("one::Toy Story\n")
    with pytest.raises(InputError, match=r"movies\.dat: expected an id and a title a line"):
        item_names(tmp_path / "clicks.csv")
