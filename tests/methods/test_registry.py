"""Methods are found by their files, and what they say of themselves is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import baco_gpu.methods
from baco_gpu.budget import Budget
from baco_gpu.errors import InputError
from baco_gpu.methods.method import Spec
from baco_gpu.methods.registry import FORMER, METHODS, NAMES, find_method
from baco_gpu.tables.full import as_table
from baco_gpu.tables.rebuild import check_known
from graphs import random_graph


def test_every_method_is_found_in_an_order_that_is_said():
    (folder,) = baco_gpu.methods.__path__
    made = [
        re.findall(r"^    name=(.*),$", file.read_text("utf-8"), re.MULTILINE) for file in Path(folder).glob("*.py")
    ]
    assert len(METHODS) == len(set(NAMES)) == sum(map(len, made))
    assert NAMES[:3] == ("full", "product", "product:integers")
    families = [method.family for method in METHODS if method.order == 100]
    assert families == sorted(families)
    assert FORMER["narrow"] == "low-dim"


@pytest.mark.heavy("solves graphs")
@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_method_says_whether_its_tables_are_served_and_they_are_known_by_their_states(method):
    if not method.installed:
        pytest.skip(f"needs {method.requires.distribution}")
    budget = Budget.of(0.5, "bytes") if method.takes_budget else None
    built = method.build(random_graph(80, 60, 600, seed=0), Spec(embedding_dim=16), budget, 0)
    for table in map(as_table, built.tables.values()):
        check_known(table)
        if method.served:
            table.check_export()
        else:
            with pytest.raises(InputError, match="a table must be"):
                table.check_export()


@pytest.mark.parametrize("name", ["product:sharded", "baco-multilevel:sharded", "low-dim:sharded"])
def test_codebooks_are_not_shared_out(name):
    with pytest.raises(InputError, match=f"method must be full:sharded for tables .*, got '{name}', whose are whole"):
        find_method(name)
