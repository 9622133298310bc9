"""The tables of README.md and docs/ are what the files of results hold."""

from __future__ import annotations

import pytest

from benchmarks import figures
from pages import TEXTS


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if "<!-- figures" in text])
def test_the_tables_of_a_page_are_those_of_the_results(page: str):
    assert figures.filled(TEXTS[page]) == TEXTS[page], "make figures writes them"


def test_every_table_has_its_place():
    places = [match[1] for text in TEXTS.values() for match in figures.TABLE.finditer(text)]
    assert sorted(places) == sorted(figures.FIGURES)
