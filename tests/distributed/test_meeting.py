"""Processes meet in a part of their store that no earlier start of them has written to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from baco_gpu.distributed import meeting


def parts_of(store, size):
    """The names of that part which the ranks learn, started together."""
    with ThreadPoolExecutor(size) as threads:
        first = threads.submit(meeting._give_out, store, size, 10.0)
        others = [threads.submit(meeting._ask, store, rank) for rank in range(1, size)]
        return [call.result() for call in (first, *others)]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_ranks_learn_one_name_and_it_is_new_at_every_start(size):
    store = dist.HashStore()
    names = [parts_of(store, size) for _ in range(3)]
    assert all(len(set(start)) == 1 for start in names)
    assert len({start[0] for start in names}) == 3


def test_what_a_start_that_was_killed_has_asked_is_no_answer_of_this_one():
    store = dist.HashStore()
    store.set("baco_gpu/asks/1", "baco_gpu/of a process that is dead")
    assert len(set(parts_of(store, 2))) == 1


def test_who_does_not_come_is_named():
    with pytest.raises(RuntimeError, match="no word of rank 1, 2"):
        meeting._give_out(dist.HashStore(), 3, 0.1)


def test_nobody_waits_for_a_first_rank_for_ever():
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=0.1))
    with pytest.raises(RuntimeError):
        meeting._ask(store, 1)
