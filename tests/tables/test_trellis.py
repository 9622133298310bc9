"""Rows that are trellis codes: what they err, which rows have more bits, and what of them is stored and served."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from baco_gpu.budget import Budget, SideBudgets, TableSize
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.experiment import encode_pretrained
from baco_gpu.methods.trellis_plan import is_small, plan_trellis
from baco_gpu.ops import trellis_coding
from baco_gpu.ops.trellis_coding import nearest_words, pack_words, read_words, shifts_for, windows_of
from baco_gpu.serving import ServedTable, load_codebook
from baco_gpu.tables import ServedEmbedding, export_codebook
from baco_gpu.tables.embedding_table import encode
from baco_gpu.tables.export import export_onnx, served_table
from baco_gpu.tables.full import size_of
from baco_gpu.tables.trellis import TrellisEmbedding
from graphs import random_graph

DIM = 16


def normal(rows: int, dim: int = DIM, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(rows: torch.Tensor, **options) -> TrellisEmbedding:
    table = TrellisEmbedding(np.arange(len(rows)), rows.shape[1], dtype=rows.dtype, **options)
    table.write_rows(rows)
    encode([table], 0)
    return table


def graded(count: int = 150) -> TrellisEmbedding:
    grades = np.random.default_rng(0).integers(0, 3, count)
    return made(normal(count) * torch.linspace(2, 0.1, DIM), widths=[1, 3, 6], grades=grades, state_bits=8)


def error(table: TrellisEmbedding, rows: torch.Tensor) -> torch.Tensor:
    return (table.weight.detach() - rows).square().mean(dim=1)


def test_paths_are_the_nearest_of_all():
    rows, values, spreads = normal(6, 4, dtype=torch.float64), normal(8, 1, 1), torch.tensor([1.0, 0.5, 2.0, 1.0])
    shifts, weights = torch.tensor([1, 2, 0, 3], dtype=torch.uint8), torch.tensor([1.0, 3.0, 1.0, 0.2])
    paths = []
    for bits in itertools.product((0, 1), repeat=6):
        state, path = 0, []
        for place, shift in enumerate(shifts.tolist()):
            first = int(shifts[:place].sum())
            state = (state << shift | int("0" + "".join(map(str, bits[first : first + shift])), 2)) & 7
            path.append(state)
        paths.append(path)
    known = torch.tensor(paths)
    costs = ((rows.unsqueeze(1) - values[:, 0][known] * spreads).square() * weights)[..., [0, 1, 3]].sum(dim=2)
    for some in (rows, rows.float()):  # without and with the compiled loop
        words = nearest_words(some, values, spreads, shifts, weights)
        assert torch.equal(words.long(), known[costs.argmin(dim=1)])


@pytest.mark.parametrize("states", [256, 1024, 4096])
def test_bits_are_read_as_they_were_packed(states):
    shifts = torch.tensor([0, 3, 0, 4, 1, 2, 2, 4, 4, 4, 0, 0], dtype=torch.uint8)
    words = nearest_words(normal(20, 12), normal(states, 1), torch.ones(12), shifts, torch.ones(12))
    packed = pack_words(words, shifts)
    assert packed.shape == (20, 3)
    whole = torch.cat([torch.tensor([255, 255], dtype=torch.uint8), packed.view(-1)])
    read = read_words(whole, 3 * torch.arange(20), windows_of(shifts.unsqueeze(0), states))
    assert torch.equal(read[:, 1:], words[:, 1:])
    assert not read[:, 0].any()


def test_bits_go_where_most_is_left():
    assert shifts_for(torch.tensor([16.0, 4.0, 1.0, 0.1]), 3).tolist() == [2, 1, 0, 0]
    assert shifts_for(torch.tensor([1e9, 1.0]), 10).tolist() == [8, 2]
    assert shifts_for(torch.zeros(3), 9).tolist() == [8, 1, 0]


@pytest.mark.parametrize(("bits", "most"), [(1, 1.4), (2, 1.5), (3, 1.95)])
def test_rows_err_less_than_values_rounded_one_by_one(bits, most):
    """Those are 1.45, 1.88 and 2.2 times of what bits allow, with the best of levels; and these rows are short."""
    rows = normal(400, 32) * 3 + 10
    left = float(error(made(rows, widths=[4 * bits]), rows).mean()) / 9
    assert 4.0**-bits < left < most * 4.0**-bits


def test_grades_of_more_bytes_err_less():
    table = graded()
    lefts = [float(error(table, table.latent_rows())[table.grades == grade].mean()) for grade in range(3)]
    assert lefts[0] > 2 * lefts[1] > 8 * lefts[2]
    assert table.codes.nbytes == 2 + int(torch.tensor([1, 3, 6])[table.grades.long()].sum())


def test_a_table_errs_least_where_the_other_one_varies():
    def lefts(ends):
        tables = [
            TrellisEmbedding(np.arange(300), DIM, widths=[3], state_bits=8, dtype=torch.float32) for _ in range(2)
        ]
        tables[1].centroids = tables[0].centroids
        for seed, (table, end) in enumerate(zip(tables, (1.0, ends), strict=True)):
            table.write_rows(normal(300, seed=seed) * torch.linspace(2, end, DIM))
        encode(tables, 0)
        return [(table.weight.detach() - table.latent_rows()).square().mean(dim=0) for table in tables]

    (even, _), (alike, _) = lefts(2.0), lefts(0.05)
    assert alike[:4].mean() < even[:4].mean()  # the places of most variance come first
    assert alike[-4:].mean() > even[-4:].mean()


def test_training_moves_values_means_spreads_and_floats():
    table = graded()
    table(torch.tensor([3, 3, 9])).square().sum().backward()
    for parameter in (table.centroids, table.means, table.spreads):
        assert parameter.grad.abs().sum() > 0
    assert table.codebook.grad[[3, 9]].abs().sum(dim=1).all()
    before = table.weight.detach().clone()
    with torch.no_grad():
        table.codebook[3] = table.codebook[5]
    assert torch.equal(table.weight, before)
    table.reassign()
    assert not torch.equal(table.weight[3], before[3])
    table.drop_latent_weight()
    assert table(torch.tensor([7])).shape == (1, DIM)
    assert torch.equal(table.weight[[0, 1]], before[[0, 1]])


@pytest.mark.parametrize("count", [1, 64, 65, 150])
@pytest.mark.parametrize("kind", ["one grade", "grades"])
def test_what_is_served_is_what_was_trained_to_the_byte(kind, count, tmp_path):
    table = graded(count) if kind == "grades" else made(normal(count), widths=[3], state_bits=8)
    served = load_codebook(export_codebook(table, tmp_path / "t.safetensors"))
    assert served.nbytes == table.nbytes == size_of(table).nbytes
    weight = table.weight.detach()
    assert np.array_equal(served.lookup(np.arange(count)), weight)
    assert torch.equal(ServedEmbedding(served)(torch.arange(count)), weight)


@pytest.mark.parametrize("kind", ["one grade", "grades"])
def test_graphs_of_onnx_give_the_same_rows(kind, tmp_path):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    table = graded() if kind == "grades" else made(normal(150), widths=[3], state_bits=8)
    (found,) = ReferenceEvaluator(str(export_onnx(table, tmp_path / "t.onnx"))).run(None, {"ids": np.arange(150)})
    np.testing.assert_allclose(found, table.weight.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook": np.zeros(6, np.uint8)}, "codebook must have 2 bytes and rows of 3, got 6"),
        ({"values": np.zeros(3, np.float32)}, "values must be a power of two of them, up to 65536, got 3"),
        ({"means": np.zeros(3, np.float32)}, f"means must be {DIM}, one for each of shifts, got 3"),
        ({"shifts": np.array([[1] * 15 + [2]], np.uint8)}, r"grades and add up to bytes, got \[17\] bits"),
        ({"places": np.zeros((1, 1), np.uint8)}, "places and bases must be given where there are several grades"),
    ],
)
def test_what_does_not_fit_together_is_not_served(change, message):
    arrays = served_table(made(normal(4), widths=[3], state_bits=8)).stored
    given = {**arrays, **change, "encoding": "trellis codes"}
    with pytest.raises(InputError, match=message):
        ServedTable(**given)


@pytest.mark.parametrize("change", [{"places": 200}, {"bases": 10**6}])
def test_places_out_of_range_are_not_served(change):
    arrays = dict(served_table(graded()).stored)
    for name, value in change.items():
        arrays[name] = np.full_like(arrays[name], value)
    with pytest.raises(InputError, match=r"must be of grades from 0 to 2|must be places among"):
        ServedTable(**arrays, encoding="trellis codes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "widths must be of 1 to 4 grades, got 0"),
        ({"widths": [0]}, "widths must be an integer from 1 to 16, got 0"),
        ({"widths": [17]}, "widths must be an integer from 1 to 16, got 17"),
        ({"widths": [1, 2]}, "grades must be 5 integers from 0 to 1"),
        ({"widths": [1, 2], "grades": [0, 1, 2, 0, 0]}, "grades must be 5 integers from 0 to 1"),
        ({"widths": [1], "state_bits": 7}, "state_bits must be an integer from 8 to 10, got 7"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrellisEmbedding(np.arange(5), DIM, **options)


@pytest.mark.parametrize("measure", ["bytes", "parameters"])
@pytest.mark.parametrize("ratio", [0.04, 0.0625, 0.3])
def test_a_plan_costs_what_its_tables_do(measure, ratio):
    graph = random_graph(400, 300, 4000, seed=0)
    size = TableSize(400, 300, 64)
    plan = plan_trellis(Budget(ratio=ratio, measure=measure), size, graph.item_degrees)
    found = size_of(*plan.tables(size))
    assert (found.nbytes, found.parameters) == (plan.bytes(size), plan.parameters(size))
    cost, whole = (
        (plan.bytes(size), size.full_bytes) if measure == "bytes" else (found.parameters, size.full_parameters)
    )
    assert cost <= ratio * whole
    assert ratio > 0.25 or cost > 0.9 * ratio * whole


def test_items_that_are_used_more_have_more_bytes():
    degrees = np.repeat([2, 60, 900], [800, 150, 50])
    plan = plan_trellis(Budget(ratio=0.0625), TableSize(1000, 1000, 64), degrees)
    (user,), items = plan.widths
    assert list(items) == sorted(set(items))
    assert items[0] < user < items[-1]
    assert [len(np.unique(degrees[plan.grades[1].of_rows == grade])) for grade in range(len(items))] == [1] * len(items)
    assert plan_trellis(Budget(ratio=0.0625), TableSize(1000, 1000, 64), np.full(1000, 7)).grades[1].of_rows is None


def test_a_budget_that_cannot_be_had_names_the_least():
    size = TableSize(1000, 1000, 64)
    with pytest.raises(UnreachableBudgetError, match=r"at least \d+ parameters, got 128") as caught:
        plan_trellis(Budget(ratio=0.001), size)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert plan_trellis(Budget(ratio=least / size.full_parameters), size).parameters(size) == least


def test_small_budgets_are_told_from_others():
    size = TableSize(600, 600, 64)
    assert is_small(Budget(ratio=0.0625))
    assert not is_small(Budget(ratio=0.1))
    assert is_small(Budget(rows=75), size)
    assert not is_small(Budget(rows=150), size)
    assert not is_small(None)
    assert is_small(SideBudgets(Budget(ratio=0.05), None))
    assert not is_small(SideBudgets(Budget(ratio=0.05), Budget(ratio=0.2)))


@pytest.mark.heavy("encodes two tables")
def test_trained_tables_are_encoded_by_what_keeps_most():
    users, items = normal(2000, 32), normal(1500, 32, seed=1)
    degrees = np.random.default_rng(0).zipf(1.5, 1500).clip(max=2000)
    modules = encode_pretrained(users, items, 0.0625, item_degrees=degrees)
    assert size_of(*modules).parameters <= 0.0625 * 3500 * 32
    left = error(modules[1], modules[1].latent_rows()) / modules[1].latent_rows().square().mean()
    known = np.corrcoef(np.log(degrees), left.numpy())[0, 1]
    assert known < -0.5
    with pytest.raises(InputError, match="item_degrees must be 1500 integers of at least 0"):
        encode_pretrained(users, items, 0.0625, item_degrees=degrees[1:])


def test_without_the_loop_paths_are_the_same(monkeypatch):
    rows, values, shifts = normal(50), normal(256, 1), shifts_for(torch.linspace(2, 0.1, DIM), 24)
    told = values, torch.linspace(2, 0.1, DIM), shifts, torch.ones(DIM)
    words = nearest_words(rows, *told)
    monkeypatch.setattr(trellis_coding, "_COSTS", 256 * 7)
    assert torch.equal(nearest_words(rows.double(), *told), words)
