"""Budgets of each table: every method meets them, or says what it can do; a model with one table spends all on that."""

from __future__ import annotations

import pytest
import torch

from baco_gpu import BalancedCoclustering, experiment
from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError
from baco_gpu.methods.product_plan import encode_pretrained
from baco_gpu.methods.registry import METHODS
from baco_gpu.tables.full import size_of

pytestmark = pytest.mark.heavy("clusters by every method")

BUDGETED = [method for method in METHODS if method.takes_budget and method.installed]
DIM = 32
OF_BYTES = ("quantized", "quantized:integers")


@pytest.fixture(scope="module")
def split():
    return random_split(planted_coclusters(300, 200, 5000, 8, noise=0.1, seed=0)[0])


def share_of(table, measure):
    size, full = size_of(table), table.num_embeddings * DIM
    return size.parameters / full if measure == "parameters" else size.nbytes / (4 * full)


def compress(split, method, budget, measure="parameters", **options):
    measure = "bytes" if method.name in OF_BYTES else measure
    estimator = BalancedCoclustering(budget=budget, budget_measure=measure, embedding_dim=DIM)
    made = experiment.compress(split, method.name, estimator, **options)
    return {side: share_of(table, measure) for side, table in made.tables.items()}, made


@pytest.mark.parametrize("measure", ["parameters", "bytes"])
@pytest.mark.parametrize("method", [method for method in BUDGETED if method.by_side], ids=lambda method: method.name)
def test_each_table_meets_its_own_budget(split, method, measure):
    budget = {"users": 0.2, "items": 0.5}
    shares, _ = compress(split, method, budget, measure)
    assert shares.keys() == budget.keys()
    for side, share in shares.items():
        # Integers come in whole bits, and product codes stop at four bits a value.
        assert (0.17 if method.stored != "floats, or integers" else 0.8 * budget[side]) < share <= budget[side]


@pytest.mark.parametrize(
    "method", [method for method in BUDGETED if not method.by_side], ids=lambda method: method.name
)
def test_methods_of_one_number_refuse_two(method):
    estimator = BalancedCoclustering(budget={"users": 0.2, "items": 0.5})
    with pytest.raises(InputError, match=f"^budget must be one number for method '{method.name}', which is brought to"):
        experiment.check_budget(method.name, estimator)


@pytest.mark.parametrize("method", [method for method in BUDGETED if not method.joint], ids=lambda method: method.name)
def test_a_single_table_has_the_whole_budget(split, method):
    shares, made = compress(split, method, 0.25, sides=("items",))
    assert list(shares) == ["items"]
    assert 0.16 < shares["items"] <= 0.25
    assert made.full.full_rows == 200
    assert made.full_parameters == 200 * 32


@pytest.mark.parametrize("method", [method for method in BUDGETED if method.joint], ids=lambda method: method.name)
def test_joint_methods_refuse_a_single_table(method):
    with pytest.raises(InputError, match="makes tables of users and of items that need one another"):
        experiment.check_budget(method.name, BalancedCoclustering(), ("items",))


def test_rows_of_a_single_table_are_met(split):
    method = next(method for method in METHODS if method.name == "baco-multilevel")
    _, made = compress(split, method, 40, sides=("items",))
    assert made.rows == 40
    _, made = compress(split, method, {"users": 7, "items": 30}, sides=("items",))
    assert made.rows == 30


def test_codebooks_of_both_sides_are_refused_before_anything_is_clustered():
    with pytest.raises(InputError, match=r"^codebooks must be 'separate' for a model with one table, of items, got 's"):
        experiment.check_budget("baco-multilevel", BalancedCoclustering(codebooks="shared"), ("items",))


@pytest.mark.parametrize("name", ["random", "product"])
def test_a_side_is_left_open_to_clusters_alone(name):
    with pytest.raises(InputError, match=f"^budget of users must be a number for method '{name}', got None"):
        experiment.check_budget(name, BalancedCoclustering(budget={"users": None, "items": 5}))


def test_integers_of_one_table_and_shared_rows_of_the_other(split):
    estimator = BalancedCoclustering(budget={"users": 0.07, "items": 0.3}, budget_measure="bytes", embedding_dim=32)
    made = experiment.compress(split, "quantized", estimator)
    assert share_of(made.user_table, "bytes") <= 0.07
    assert made.user_table.bits == 2
    assert made.user_table.num_rows < 300
    assert made.item_table.bits > 2
    assert made.item_table.num_rows == 200


def test_trained_tables_are_encoded_by_side():
    torch.manual_seed(0)
    tables = torch.randn(300, 32), torch.randn(200, 32)
    users, items = encode_pretrained(*tables, {"users": 0.2, "items": 0.1})
    assert users.centroids is not items.centroids
    assert share_of(users, "parameters") <= 0.2
    assert share_of(items, "parameters") <= 0.1
    with pytest.raises(InputError, match=r"^budget of users must be a number, got None"):
        encode_pretrained(*tables, {"users": None, "items": 0.1})
