"""Budgets: how they are written, what they buy, and that results lie just under them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.budget import Budget, Reach, TableSize, solve_within
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph

pytestmark = pytest.mark.heavy("solves many graphs")

TABLE = TableSize(num_users=60, num_items=40, embedding_dim=10, value_bytes=4)


def solve(graph, **parameters):
    return BalancedCoclustering(**parameters).fit(graph).result_


def cost(result, measure):
    """What the result costs, what one more row would add, and what the full table costs."""
    if measure == "bytes":
        return result.bytes_compressed, result.embedding_dim * result.value_bytes, result.table.full_bytes
    return result.parameters_compressed, result.embedding_dim, result.table.full_parameters


class TestWriting:
    @pytest.mark.parametrize("value", [0.25, np.float64(0.25), np.float32(0.25), Fraction(1, 4)])
    def test_a_fraction_is_a_ratio(self, value):
        assert Budget.of(value) == Budget(ratio=0.25)
        assert Budget.of(value, "bytes") == Budget(ratio=0.25, measure="bytes")

    def test_one_as_a_float_is_the_full_table_and_as_an_integer_one_row(self):
        assert Budget.of(1.0) == Budget(ratio=1.0)
        assert Budget.of(1) == Budget(rows=1)

    @pytest.mark.parametrize("value", [9000, np.int32(9000), np.uint64(9000)])
    def test_an_integer_is_a_number_of_rows(self, value):
        assert Budget.of(value) == Budget(rows=9000)

    @pytest.mark.parametrize(
        "value",
        [0, -3, 0.0, -0.1, 1.0001, 2.5, math.nan, math.inf, True, False, np.True_, "0.25", "25%", None, [0.25], 1j],
    )
    def test_anything_else_is_refused_by_name(self, value):
        with pytest.raises(InputError, match=r"^budget .*got ") as caught:
            Budget.of(value)
        assert "\n" not in str(caught.value)

    def test_measures(self):
        with pytest.raises(InputError, match="budget_measure must be one of 'parameters', 'bytes', got 'rows'"):
            Budget.of(0.5, "rows")


class TestAccounting:
    def test_sizes_by_hand(self):
        assert TABLE.full_rows == 100
        assert TABLE.full_parameters == 1000
        assert TABLE.full_bytes == 4000
        assert TABLE.compressed_parameters(7, 30) == 100
        # 7 rows of 40 bytes; 100 indices of 4 bytes; 60 secondary ones.
        assert TABLE.compressed_bytes(7, 60) == 280 + 400 + 240
        assert replace(TABLE, codebook_dtype="int8").compressed_bytes(7, 60) == 7 * (10 + 1) + 400 + 240

    def test_rows_for_by_hand(self):
        def rows(budget, indices=0, slots=0):
            return budget.rows_for(TABLE, secondary_indices=indices, secondary_slots=slots)

        assert rows(Budget(rows=17), 50, 60) == 17
        assert rows(Budget(ratio=0.25)) == 25
        assert rows(Budget(ratio=0.25), 50) == 20
        assert rows(Budget(ratio=0.25), 51) == 19
        assert rows(Budget(ratio=0.25), 251) == -1
        assert rows(Budget(ratio=0.25, measure="bytes")) == 15  # (1000 - 400) / 40
        assert rows(Budget(ratio=0.25, measure="bytes"), 50, 60) == 9  # (1000 - 400 - 240) / 40

    @given(st.floats(0.01, 1), st.integers(0, 200), st.sampled_from(["parameters", "bytes"]))
    def test_rows_for_is_the_most_that_fits(self, ratio, indices, measure):
        rows = Budget(ratio=ratio, measure=measure).rows_for(TABLE, secondary_indices=indices, secondary_slots=indices)
        full = TABLE.full_bytes if measure == "bytes" else TABLE.full_parameters
        compressed = TABLE.compressed_bytes if measure == "bytes" else TABLE.compressed_parameters
        assert compressed(rows, indices) <= ratio * full < compressed(rows + 1, indices)


class TestSearch:
    """`solve_within` against made-up solvers, whose secondary indices depend on the rows in awkward ways."""

    def search(self, budget, indices_at, reach=None, short=0):
        calls = []

        def solve(rows):
            calls.append(rows)
            assert rows >= reach.fewest
            reached = max(rows - short, reach.fewest)
            return reached, reached, indices_at(reached)

        reach = reach or Reach(fewest=2, most=100, indices=60, slots=60)
        return solve_within(budget, TABLE, reach, solve), calls

    def test_rows_are_solved_for_once(self):
        assert self.search(Budget(rows=40), lambda rows: 60) == (40, [40])
        assert self.search(Budget(rows=400), lambda rows: 60) == (100, [100])
        assert self.search(Budget(rows=40), lambda rows: 60, short=1) == (39, [40])

    def test_bytes_are_solved_for_once(self):
        assert self.search(Budget(ratio=0.5, measure="bytes"), lambda rows: 33) == (34, [34])

    def test_a_full_set_of_indices_needs_one_attempt(self):
        assert self.search(Budget(ratio=0.5), lambda rows: 60) == (44, [44])

    def test_room_left_by_missing_indices_is_used(self):
        assert self.search(Budget(ratio=0.5), lambda rows: 20) == (48, [44, 48])

    def test_too_greedy_an_attempt_is_taken_back(self):
        rows, calls = self.search(Budget(ratio=0.5), lambda rows: 0 if rows < 47 else 60)
        assert rows == 46
        assert len(calls) == len(set(calls))

    def test_a_solver_whose_rows_jump_is_not_asked_for_ever(self):
        calls = []

        def solve(rows):
            calls.append(rows)
            reached = 30 if rows < 60 else 60
            return reached, reached, 20

        assert solve_within(Budget(ratio=0.5), TABLE, Reach(2, 100, 60, 60), solve) == 30
        assert calls == [44, 48]

    @given(st.lists(st.integers(0, 60), min_size=101, max_size=101), st.floats(0.03, 1), st.integers(0, 1))
    def test_the_budget_holds_whatever_the_indices(self, indices, ratio, short):
        indices[2] = 0  # as in every solution of one cluster
        rows, calls = self.search(Budget(ratio=ratio), lambda rows: indices[rows], short=short)
        assert TABLE.compressed_parameters(rows, indices[rows]) <= ratio * TABLE.full_parameters
        assert len(calls) <= 12
        assert len(calls) == len(set(calls))

    def test_unreachable_budgets_name_what_can_be_reached(self):
        reach = Reach(fewest=2, most=90, indices=60, slots=60)

        def message(budget):
            with pytest.raises(InputError) as caught:
                solve_within(budget, TABLE, reach, lambda rows: pytest.fail("nothing to solve"))
            return str(caught.value)

        assert message(Budget(rows=1)) == ("budget of 1 codebook rows is below what this graph can reach: 2 to 90 rows")
        assert message(Budget(ratio=0.01)) == (
            "budget of 0.01 of the full table's parameters is below what this graph can reach: "
            "0.02 (2 codebook rows) to 0.9 (90 rows)"
        )
        assert message(Budget(ratio=0.01, measure="bytes")) == (
            "budget of 0.01 of the full table's bytes is below what this graph can reach: "
            "0.18 (2 codebook rows) to 1.06 (90 rows)"
        )


GRAPHS = {
    "even": random_graph(400, 300, 2500, seed=1),
    "weighted": random_graph(300, 400, 2500, seed=2, weighted=True),
    "sparse": random_graph(500, 400, 600, seed=3),  # many components, many nodes without an edge
    "dense": random_graph(300, 60, 9000, seed=4),
}


class TestResults:
    @pytest.mark.parametrize("measure", ["parameters", "bytes"])
    @pytest.mark.parametrize("secondary", ["none", "users", "items", "both"])
    @pytest.mark.parametrize("ratio", [0.05, 0.1, 0.25, 0.5, 0.77, 1.0])
    @pytest.mark.parametrize("name", GRAPHS)
    def test_lie_just_under_the_ratio(self, name, ratio, secondary, measure):
        graph = GRAPHS[name]
        result = solve(graph, budget=ratio, secondary=secondary, budget_measure=measure)
        spent, row, full = cost(result, measure)
        assert spent <= ratio * full
        lone = sum((degrees == 0).sum() for degrees in (graph.user_degrees, graph.item_degrees))
        every_row = result.codebook_rows >= graph.num_users + graph.num_items - lone
        # Within 1%, or within two rows (a merge may save two at once), where 1% is less than that.
        assert spent > ratio * full - max(0.01 * ratio * full, 2 * row) or every_row

    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    @pytest.mark.parametrize("measure", ["parameters", "bytes"])
    def test_nodes_without_an_edge_pay_for_their_entries(self, solver, measure):
        graph = BipartiteGraph.from_edges([0, 1, 2, 3] * 10, list(range(40)), num_users=400)
        for ratio in (0.56, 0.57, 0.58):
            result = solve(
                graph, budget=ratio, solver=solver, budget_measure=measure, embedding_dim=4, secondary="both"
            )
            spent, _, full = cost(result, measure)
            assert spent <= ratio * full

    @pytest.mark.parametrize("dim", [1, 2, 4])
    @pytest.mark.parametrize("secondary", ["users", "both"])
    def test_are_never_over_where_indices_cost_as_much_as_rows(self, dim, secondary):
        for ratio in (0.05, 0.3, 0.5, 0.9, 1.0):
            result = solve(GRAPHS["even"], budget=ratio, secondary=secondary, embedding_dim=dim)
            assert result.parameters_compressed <= ratio * result.table.full_parameters

    def test_use_the_budget_where_indices_cost_as_much_as_rows(self):
        result = solve(GRAPHS["even"], budget=0.5, embedding_dim=1)
        assert result.parameters_compressed >= 0.95 * 350

    @pytest.mark.parametrize("secondary", ["none", "both"])
    @pytest.mark.parametrize("name", GRAPHS)
    def test_have_the_rows_asked_for(self, name, secondary):
        graph = GRAPHS[name]
        lone = sum((degrees == 0).any() - (degrees == 0).sum() for degrees in (graph.user_degrees, graph.item_degrees))
        most = graph.num_users + graph.num_items + int(lone)
        for rows in (2, 3, 4, 17, 100, most - 1, most, most + 1000):
            result = solve(graph, budget=rows, secondary=secondary)
            # One less where every merge left saves two rows.
            assert min(rows, most) - 1 <= result.codebook_rows <= rows
            assert rows < most or result.codebook_rows == most

    @given(bipartite_graphs(), st.integers(1, 30))
    def test_have_just_the_rows_asked_for_where_the_sides_share_them(self, graph, rows):
        result = solve(graph, budget=rows, codebooks="shared")
        most = solve(graph, budget=10**9, codebooks="shared").codebook_rows
        assert result.codebook_rows == result.num_clusters == min(rows, most)
        lone = [int((degrees == 0).sum()) for degrees in (graph.user_degrees, graph.item_degrees)]
        assert most == graph.num_users + graph.num_items - sum(lone) + any(lone)

    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    def test_buy_more_coclusters_where_the_sides_share_their_rows(self, solver):
        graph = GRAPHS["even"]
        own, shared = (solve(graph, budget=0.3, solver=solver, codebooks=kind) for kind in ("separate", "shared"))
        assert shared.num_clusters > 1.5 * own.num_clusters
        assert shared.parameters_compressed <= 0.3 * shared.table.full_parameters
        with pytest.raises(InputError, match="codebooks must be one of 'separate', 'shared', got 'one'"):
            solve(graph, budget=0.3, codebooks="one")

    @given(bipartite_graphs(), st.integers(2, 30), st.sampled_from(["none", "users", "both"]))
    def test_of_awkward_graphs_have_the_rows_asked_for(self, graph, rows, secondary):
        result = solve(graph, budget=rows, secondary=secondary)
        most = solve(graph, budget=10**9).codebook_rows
        assert min(rows, most) - 1 <= result.codebook_rows <= rows

    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    def test_the_whole_table_keeps_every_row(self, solver):
        graph = random_graph(50, 40, 900, seed=0)
        assert (graph.user_degrees > 0).all()
        assert (graph.item_degrees > 0).all()
        result = solve(graph, budget=1.0, solver=solver, secondary="none")
        assert result.codebook_rows == 90
        assert result.parameters_compressed == result.table.full_parameters

    @pytest.mark.parametrize("gamma", [None, 0, 50.0])
    def test_merging_goes_on_across_components(self, gamma):
        pairs = np.arange(101)  # as many components as pairs
        graph = BipartiteGraph.from_edges(pairs, pairs)
        for rows in range(2, 203, 25):
            result = solve(graph, budget=rows, gamma=gamma)
            assert rows - 1 <= result.codebook_rows <= rows
        assert solve(graph, budget=2).num_clusters == 1

    def test_merging_across_components_keeps_sizes_even(self):
        pairs = np.arange(128)
        result = solve(BipartiteGraph.from_edges(pairs, pairs), budget=32)
        assert result.users.sizes(result.num_clusters).tolist() == [8] * 16

    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    def test_below_two_rows_is_out_of_reach(self, solver):
        with pytest.raises(InputError, match=r"budget of 1 codebook rows is below .* 2 to "):
            solve(GRAPHS["even"], budget=1, solver=solver)

    def test_ratios_out_of_reach_name_one_that_is_in_reach(self):
        graph = GRAPHS["even"]
        for measure in ("parameters", "bytes"):
            with pytest.raises(
                InputError, match=rf"full table's {measure} is below what this graph can reach"
            ) as caught:
                solve(graph, budget=1e-3, budget_measure=measure)
            least = float(str(caught.value).split("reach: ")[1].split(" ")[0])
            assert solve(graph, budget=least, budget_measure=measure).codebook_rows == 2


class TestDegenerateGraphs:
    """Users without an edge share one row, and so do items without an edge; no side without nodes has any row."""

    def graph(self, num_users, num_items):
        empty = np.empty(0, np.int64)
        return BipartiteGraph.from_edges(empty, empty, num_users=num_users, num_items=num_items)

    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    @pytest.mark.parametrize(("shape", "rows"), [((0, 0), 0), ((50, 0), 1), ((0, 50), 1), ((50, 50), 2)])
    def test_without_edges_every_side_has_one_row(self, shape, rows, solver):
        for budget in (0.25, 1.0, 7):
            result = solve(self.graph(*shape), budget=budget, solver=solver, secondary="both")
            assert result.codebook_rows == rows
            assert result.objective == 0
            assert np.isfinite(result.gamma)
            assert result.users.labels.tolist() == [0] * shape[0]
            assert result.items.labels.tolist() == [0] * shape[1]
            assert result.users.secondary.tolist() == [-1] * shape[0]
            assert result.items.secondary.tolist() == [-1] * shape[1]

    @pytest.mark.parametrize("shape", [(0, 0), (50, 0), (0, 50), (50, 50)])
    def test_without_edges_and_budget(self, shape):
        result = solve(self.graph(*shape), budget=None)
        assert result.codebook_rows == sum(size > 0 for size in shape)

    def test_nodes_without_an_edge_share_their_row(self):
        graph = BipartiteGraph.from_edges([0, 0, 1, 2], [0, 1, 1, 2], num_users=9, num_items=8)
        result = solve(graph, budget=1.0)
        lone_users, lone_items = result.users.labels[3:], result.items.labels[3:]
        assert len({*lone_users, *lone_items}) == 1
        assert lone_users[0] not in {*result.users.labels[:3], *result.items.labels[:3]}
        assert result.codebook_rows == 8

    @pytest.mark.parametrize(("users", "items"), [([0], [0]), ([0, 1, 2], [0, 0, 0]), ([0, 0, 0], [0, 1, 2])])
    def test_stars_and_a_single_edge(self, users, items):
        graph = BipartiteGraph.from_edges(users, items)
        assert solve(graph, budget=2).codebook_rows == 2
        assert solve(graph, budget=1.0, secondary="none").codebook_rows == graph.num_users + graph.num_items
