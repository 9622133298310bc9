"""One budget among several tables: least error in all, held to every way of dividing it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.columns.division import convex, divide
from baco_gpu.columns.storage import StorageChoice

WAYS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 50)).map(lambda pair: way(*pair)), min_size=1, max_size=6)


def way(cost: int, error: float) -> StorageChoice:
    return StorageChoice("a", 1, cost, float(error))


def test_steps_that_take_most_off_for_their_cost_are_bought_first():
    steep, flat = [way(1, 10), way(2, 1), way(9, 0)], [way(1, 10), way(2, 8), way(3, 7)]
    assert divide([steep, flat], 4) == [steep[1], flat[1]]


def test_a_large_step_is_taken_where_small_ones_left_no_room_for_it():
    large, small = [way(1, 100), way(11, 20)], [way(1, 50), way(3, 30), way(5, 15), way(7, 5)]
    assert divide([large, small], 12) == [large[1], small[0]]


def test_a_way_above_the_line_between_two_others_is_left_out():
    assert convex([way(1, 10), way(2, 9.5), way(3, 0), way(4, 1)]) == [way(1, 10), way(3, 0)]


@given(st.lists(WAYS, min_size=1, max_size=3), st.integers(0, 60))
def test_nothing_that_costs_as_much_errs_less(tables: list[list[StorageChoice]], more: int):
    most = sum(min(each.cost for each in ways) for ways in tables) + more
    chosen = divide(tables, most)
    spent, error = sum(each.cost for each in chosen), sum(each.error for each in chosen)
    assert spent <= most
    rivals = [some for some in itertools.product(*map(convex, tables)) if sum(each.cost for each in some) <= most]
    # Of ways on the hull: the greedy division is within one step of the best (its last one that had no room).
    steps = [first.error - then.error for ways in tables for first, then in itertools.pairwise(convex(ways))]
    assert error <= min(sum(each.error for each in some) for some in rivals) + max(steps, default=0.0) + 1e-9
