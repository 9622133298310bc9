"""Experiments: every method is charged by the same accounting, and what is saved is what was trained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open

from baco_gpu import experiment
from baco_gpu.budget import Budget, TableSize
from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.product_plan import ENOUGH_BITS, MOST_PLANNED, ProductPlan, plan_product
from baco_gpu.methods.residual_plan import MIN_INTERACTIONS
from baco_gpu.tables.residual import ResidualCodebookEmbedding
from baco_gpu.training import Checkpoint
from baco_gpu.training.settings import TrainingSettings
from thread_ranks import on_ranks

pytestmark = pytest.mark.heavy("trains models")

SETTINGS = TrainingSettings(epochs=2, batch_size=512, patience=None)


@pytest.fixture(scope="module")
def split():
    interactions, _, _ = planted_coclusters(200, 120, 2500, 8, noise=0.1, seed=5)
    return random_split(interactions, (0.8, 0.1, 0.1), 0)


def clustering(**parameters):
    return BalancedCoclustering(embedding_dim=8, **parameters)


@pytest.mark.parametrize("budget", [0.25, 80])
@pytest.mark.parametrize("method", ["random", "baco-multilevel"])
def test_parameters_are_within_the_budget(split, method, budget):
    compression = experiment.compress(split, method, clustering(budget=budget))
    trained = sum(parameter.numel() for table in tables(compression) for parameter in table.parameters())
    if budget == 0.25:
        assert 0.9 * 0.25 * 320 * 8 <= compression.parameters <= 0.25 * 320 * 8
    else:
        assert compression.rows <= 80
    secondary = 0 if compression.result is None else compression.result.users.secondary_indices
    assert compression.parameters == trained + secondary
    assert compression.bytes >= 4 * trained


def tables(compression):
    return compression.user_table, compression.item_table


def test_the_full_table_costs_itself(split):
    compression = experiment.compress(split, "full", clustering())
    assert compression.rows == 320
    assert compression.parameters == 320 * 8
    assert compression.bytes == 320 * 8 * 4


@pytest.mark.parametrize(("budget", "width"), [(0.25, 2), (0.5, 4), (1.0, 8), (80, 2)])
def test_a_narrow_table_has_as_many_dimensions_as_the_budget(split, budget, width):
    compression = experiment.compress(split, "low-dim", clustering(budget=budget))
    assert (compression.rows, compression.parameters) == (320, 320 * width)
    assert compression.full_parameters == 320 * 8
    with pytest.raises(UnreachableBudgetError, match=r"above a budget of 0\.1"):
        experiment.compress(split, "low-dim", clustering(budget=0.1))


def residual_owners(table):
    return len(table.residual) - 1 if isinstance(table, ResidualCodebookEmbedding) else 0


@pytest.mark.parametrize(
    ("budget", "measure"),
    [(0.25, "parameters"), (0.5, "parameters"), (0.6, "bytes"), (0.9, "bytes"), (120, "parameters")],
)
def test_residuals_are_paid_for_by_the_budget(split, budget, measure):
    compression = experiment.compress(split, "residual", clustering(budget=budget, budget_measure=measure))
    graph = BipartiteGraph.from_interactions(split.train)
    for table, degrees in zip(tables(compression), (graph.user_degrees, graph.item_degrees), strict=True):
        assert residual_owners(table) == (degrees >= MIN_INTERACTIONS).sum() > 0
        assert table.residual_dim == 1
    if budget == 120:
        assert compression.parameters <= 120 * 8 + compression.result.users.secondary_indices
        return
    spent = compression.parameters if measure == "parameters" else compression.bytes
    limit = budget * 320 * 8 * (1 if measure == "parameters" else 4)
    assert 0.97 * limit <= spent <= limit


@pytest.mark.parametrize(("budget", "measure"), [(10, "parameters"), (0.25, "bytes")])
def test_a_budget_too_small_for_residuals_is_all_rows(split, budget, measure):
    compression = experiment.compress(split, "residual", clustering(budget=budget, budget_measure=measure))
    assert not any(map(residual_owners, tables(compression)))
    plain = experiment.compress(split, "baco-multilevel", clustering(budget=budget, budget_measure=measure))
    assert (compression.rows, compression.parameters) == (plain.rows, plain.parameters)


@pytest.mark.parametrize("measure", ["parameters", "bytes"])
@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9, 100])
def test_ids_that_mix_rows_are_paid_for_by_the_budget(split, budget, measure):
    # Residuals of a rank that is not the least there is, which would take a good part of so narrow a table.
    estimator = BalancedCoclustering(embedding_dim=32, budget=budget, budget_measure=measure)
    compression = experiment.compress(split, "affinity", estimator)
    users, items = tables(compression)
    assert users.codebook is items.codebook
    assert compression.rows == users.num_rows == compression.result.codebook_rows == compression.result.num_clusters
    trained = {id(value): value.numel() for table in (users, items) for value in table.parameters()}
    indices = sum(int((table.secondary != table.assignments[:, None]).sum()) for table in (users, items))
    owners = sum(len(table.residual) - 1 for table in (users, items))
    assert compression.parameters == sum(trained.values()) + indices + owners - 2 * users.residual_dim
    if budget == 100:
        assert compression.rows <= 100
        return
    spent = compression.parameters if measure == "parameters" else compression.bytes
    limit = budget * 320 * 32 * (1 if measure == "parameters" else 4)
    assert 0.97 * limit <= spent <= limit


@pytest.mark.parametrize(
    ("budget", "bits", "rows"), [(0.5, 8, 320), (0.25, 7, 320), (0.15, 4, 320), (0.1, 2, 320), (0.06, 2, None)]
)
def test_a_budget_of_bytes_buys_the_widest_integers_that_need_no_sharing(split, budget, bits, rows):
    # 32 values of 4 bytes a row; the byte of its scale is 0.8% of that, and an index an id that shares rows 3%.
    estimator = BalancedCoclustering(embedding_dim=32, budget=budget, budget_measure="bytes")
    compression = experiment.compress(split, "quantized", estimator)
    users, items = tables(compression)
    assert users.bits == items.bits == bits
    assert users.secondary is None
    assert compression.bytes <= budget * compression.full_bytes == budget * 320 * 32 * 4
    if rows is None:
        assert 0.97 * budget * compression.full_bytes <= compression.bytes
        assert compression.rows < 320
        assert compression.result.bytes_compressed == compression.bytes
    else:
        assert compression.rows == rows
        assert compression.bytes == rows * (32 * bits // 8 + 1)
        assert compression.result is None  # there is nothing to cluster for


def test_rows_of_few_bits_without_floats_are_as_wide_as_the_budget_has_room_for(split):
    for budget, bits in ((0.6, 16), (0.5, 8), (0.25, 7), (0.2, 6)):
        estimator = BalancedCoclustering(embedding_dim=32, budget=budget, budget_measure="bytes")
        compression = experiment.compress(split, "quantized:integers", estimator)
        assert {table.bits for table in (compression.user_table, compression.item_table)} == {bits}
        assert compression.rows == 320
        assert compression.parameters == compression.full_parameters == 320 * 32
        assert compression.bytes == 320 * (32 * bits // 8 + 1) <= budget * compression.full_bytes
    estimator = BalancedCoclustering(embedding_dim=32, budget=0.19, budget_measure="bytes")
    with pytest.raises(UnreachableBudgetError, match=r"rows of 6 bits a value are 0\.195312 .* a budget of 0\.19;"):
        experiment.compress(split, "quantized:integers", estimator)


def test_what_is_compact_is_product_codes_of_rows_without_floats(split):
    estimator = BalancedCoclustering(embedding_dim=32, budget=0.1)
    compact, product = (experiment.compress(split, method, estimator) for method in ("product:integers", "product"))
    assert (compact.parameters, compact.bytes, compact.rows) == (product.parameters, product.bytes, 320)
    users, items = tables(compact)
    assert users.form == product.user_table.form
    assert users.centroids is items.centroids
    assert users.latent_weight.bits == items.latent_weight.bits == 16
    outcome = experiment.run(split, compact, "mf", TrainingSettings(epochs=2, batch_size=512))
    assert users.latent_weight is items.latent_weight is None
    assert outcome.summary()["bytes"] == compact.bytes


def test_rows_that_are_compact_may_be_narrower_while_they_are_trained(split):
    for dtype, bits in (("int8", 8), ("int6", 6)):
        estimator = BalancedCoclustering(embedding_dim=32, budget=0.1, codebook_dtype=dtype)
        users, items = tables(experiment.compress(split, "product:integers", estimator))
        assert users.latent_weight.bits == items.latent_weight.bits == bits
    for dtype in ("float", "int5"):
        estimator = BalancedCoclustering(embedding_dim=32, budget=0.1, codebook_dtype=dtype)
        with pytest.raises(InputError, match=f"codebook_dtype must be one of 'int16', .*, 'int6', got '{dtype}'"):
            experiment.compress(split, "product:integers", estimator)


def test_the_width_of_values_may_be_given(split):
    estimator = BalancedCoclustering(embedding_dim=32, budget=0.25, codebook_dtype="int4")
    compression = experiment.compress(split, "quantized", estimator)
    assert compression.user_table.bits == 4
    assert compression.rows == 80


@pytest.mark.parametrize("measure", ["parameters", "bytes"])
@pytest.mark.parametrize("budget", [0.13, 0.1, 0.07, 0.05, 40])
def test_product_codes_are_as_fine_as_the_budget_has_room_for(split, measure, budget):
    estimator = BalancedCoclustering(embedding_dim=32, budget=budget, budget_measure=measure)
    compression = experiment.compress(split, "product", estimator)
    users, items = tables(compression)
    assert users.centroids is items.centroids
    plan = ProductPlan(*users.form[1:])
    size = TableSize(split.num_users, split.num_items, 32)
    assert compression.parameters == plan.parameters(size)
    assert compression.bytes == plan.bytes(size)
    assert compression.rows == 320

    def cost(plan):
        return plan.bytes(size) if measure == "bytes" and budget != 40 else plan.parameters(size)

    limit = 40 * 32 if budget == 40 else budget * 320 * 32 * (4 if measure == "bytes" else 1)
    assert cost(plan) <= limit
    others = (
        ProductPlan(subspaces, count, bits)
        for subspaces in range(1, 17)
        for bits in (8, 16)
        if subspaces * bits <= ENOUGH_BITS * 32
        for count in range(2, min(MOST_PLANNED, 320 * subspaces, 1 << bits) + 1, 1 + subspaces % 3)
    )
    better = [other for other in others if other.form(size).error < plan.form(size).error - 1e-12]
    assert better
    assert all(cost(other) > limit for other in better)


def test_product_codes_leave_unspent_what_more_bits_would_not_repay():
    half, whole = (plan_product(Budget.of(share), TableSize(30_000, 40_000, 64)) for share in (0.5, 1.0))
    assert half == whole == (16, MOST_PLANNED, 16)
    one = plan_product(Budget.of(0.9), TableSize(30_000, 40_000, 1))  # where a number of 8 bits is more than enough
    assert one.subspaces == 1


@given(
    st.integers(100, 100_000),
    st.integers(100, 100_000),
    st.integers(4, 80),
    st.floats(0.07, 1),
    st.floats(0.5, 1),
    st.sampled_from(["parameters", "bytes"]),
)
def test_product_codes_of_a_larger_budget_are_no_worse(users, items, dim, larger, part, measure):
    table = TableSize(users, items, dim)
    try:
        worse = plan_product(Budget.of(larger * part, measure), table)
    except UnreachableBudgetError:
        assume(False)
    better = plan_product(Budget.of(larger, measure), table)
    assert better.form(table).error <= worse.form(table).error
    assert better.bytes(table) <= larger * table.full_bytes
    assert abs(better.parameters(table) * 4 - better.bytes(table)) < 8


# Of 320 rows, and 120 items.
@pytest.mark.parametrize(("measure", "least"), [("parameters", 64 + (320 + 120) // 4), ("bytes", 320 + 4 * 64 + 120)])
def test_product_codes_need_a_number_a_row_and_two_centroids(split, measure, least):
    estimator = BalancedCoclustering(embedding_dim=32, budget=0.001, budget_measure=measure)
    with pytest.raises(
        UnreachableBudgetError, match=f"at least {least} {measure}, got {10 if measure == 'parameters' else 40}"
    ):
        experiment.compress(split, "product", estimator)


@pytest.mark.parametrize("method", ["product", "quantized:integers"])
def test_what_is_stored_in_its_own_way_is_not_stored_in_another_too(split, method):
    estimator = BalancedCoclustering(budget=0.25, codebook_dtype="int4")
    with pytest.raises(InputError, match=rf"codebook_dtype must be 'float' for method '{method}', .*, got 'int4'"):
        experiment.compress(split, method, estimator)


@pytest.mark.parametrize("method", ["quantized", "quantized:integers"])
@pytest.mark.parametrize(
    ("budget", "measure", "got"), [(0.25, "parameters", "a share of the parameters"), (100, "bytes", "100 rows")]
)
def test_the_width_of_values_is_chosen_for_bytes_alone(split, method, budget, measure, got):
    estimator = BalancedCoclustering(budget=budget, budget_measure=measure)
    with pytest.raises(InputError, match=f"share of the bytes for method '{method}' .*, got {got}"):
        experiment.compress(split, method, estimator)


@pytest.mark.parametrize("method", ["baco-multilevel", "residual"])
def test_other_tables_share_a_codebook_too_when_asked_to(split, method):
    estimator = BalancedCoclustering(embedding_dim=32, budget=0.25, codebooks="shared")
    compression = experiment.compress(split, method, estimator)
    users, items = tables(compression)
    assert users.codebook is items.codebook
    assert compression.rows == compression.result.num_clusters
    assert 0.97 * 0.25 * 320 * 32 <= compression.parameters <= 0.25 * 320 * 32


def test_fewer_rows_are_mixed_where_the_budget_is_small(split):
    widths = []
    for budget in (0.5, 0.25, 0.12, 0.05):
        compression = experiment.compress(split, "affinity", BalancedCoclustering(embedding_dim=32, budget=budget))
        assert compression.parameters <= budget * 320 * 32
        second = compression.user_table.secondary
        widths.append(0 if second is None else second.shape[1])
    assert widths[0] == 8
    assert sorted(widths, reverse=True) == widths
    assert widths[-1] == 0


def test_mixed_tables_train_and_are_saved_whole(split, tmp_path):
    compression = experiment.compress(split, "affinity", clustering(budget=0.5))
    outcome = experiment.run(split, compression, "mf", SETTINGS)
    path = experiment.save_model(outcome, tmp_path / "model.safetensors")
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        assert "items.codebook" not in stored
        stored["items.codebook"] = stored[file.metadata()["items.codebook"]]
    for name, table in zip(("users", "items"), tables(compression), strict=True):
        for part, tensor in table.state_dict().items():
            assert torch.equal(stored[f"{name}.{part}"], tensor)


def test_a_run_over_mixed_tables_resumes_to_the_same_result(split, tmp_path):
    def run(epochs, **checkpoint):
        compression = experiment.compress(split, "affinity", clustering(budget=0.5))
        settings = replace(SETTINGS, epochs=epochs)
        callbacks = [Checkpoint(tmp_path / "run.safetensors", **checkpoint)] if checkpoint else []
        return experiment.run(split, compression, "lightgcn", settings, callbacks=callbacks)

    whole, _, resumed = run(4), run(2, every=1), run(4, every=1, resume=True)
    assert resumed.training.test == whole.training.test
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_codebook_clusters_the_training_part_only(split):
    compression = experiment.compress(split, "baco-multilevel", clustering(random_state=3))
    direct = clustering(random_state=3).fit(BipartiteGraph.from_interactions(split.train)).result_
    assert compression.result.labels_sha256 == direct.labels_sha256


def test_ranks_with_different_data_are_told_before_they_cluster(split, monkeypatch):
    monkeypatch.setattr(BalancedCoclustering, "fit", None)
    parts = split, replace(split, train=split.validation)
    with pytest.raises(AssertionError, match="checksum_of_the_training_part"):
        on_ranks(2, lambda ranks: experiment.compress(parts[ranks.rank], "baco", clustering(budget=0.5), ranks=ranks))


def test_runs_repeat_and_report(split):
    outcomes = [
        experiment.run(split, experiment.compress(split, "baco-multilevel", clustering()), "lightgcn", SETTINGS)
        for _ in range(2)
    ]
    first, second = (outcome.summary() for outcome in outcomes)
    for key in ("recall@20", "recall_capped@20", "ndcg@20", "validation", "parameters"):
        assert first[key] == second[key]
    assert [epoch for epoch, _ in outcomes[0].curve] == [1, 2]
    json.dumps(first)


def test_a_saved_model_holds_the_trained_tables(split, tmp_path):
    outcome = experiment.run(split, experiment.compress(split, "baco-multilevel", clustering()), "mf", SETTINGS)
    path = experiment.save_model(outcome, tmp_path / "model.safetensors")
    with safe_open(path, framework="pt") as file:
        codebook, codes = file.get_tensor("users.codebook"), file.get_tensor("users.assignments").long()
        secondary = file.get_tensor("users.secondary").long()
        summary = json.loads(file.metadata()["summary"])
    expanded = (codebook[codes] + codebook[secondary]) / 2
    table = outcome.compression.user_table
    assert torch.allclose(expanded, table(torch.arange(200)).detach())
    assert summary["recall@20"] == outcome.training.test["recall@20"]


def test_mistakes(split):
    with pytest.raises(InputError, match="method must be one of"):
        experiment.compress(split, "magic", clustering())
    with pytest.raises(InputError, match="model must be one of"):
        experiment.run(split, experiment.compress(split, "full", clustering()), "bert", SETTINGS)
    with pytest.raises(InputError, match="budget must be given for method 'random'"):
        experiment.compress(split, "random", clustering(budget=None))
    result = clustering().fit(BipartiteGraph.from_edges(np.arange(5), np.arange(5))).result_
    with pytest.raises(InputError, match="another graph"):
        experiment.compress(split, "baco-multilevel", clustering(), result=result)
    with pytest.raises(InputError, match="'baco-multilevel' alone, got method 'full'"):
        experiment.compress(split, "full", clustering(), result=result)
