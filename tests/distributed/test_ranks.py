"""Processes that gloo joins cluster to the result of one, and end together."""

from __future__ import annotations

import numpy as np
import pytest

from distributed import gloo, work

pytestmark = pytest.mark.heavy("starts processes")


def test_processes_give_the_result_of_one_and_meet_faults_together():
    every = gloo.run(work.work_together, 4)
    alone = {case[1:]: said for case, said in every[0][0].items() if case[0] == 1}
    assert len(alone) == 12
    for rank, (solved, *_) in every.items():
        several = {case: said for case, said in solved.items() if case[0] > 1}
        assert len(several) == len(alone) * sum(rank < size for size in (2, 3, 4))
        for case, said in several.items():
            assert said == alone[case[1:]], case
    assert all(read == every[0][1] for _, read, _, _ in every.values())
    assert every[0][1][-1].startswith("RankError: rank 1: /part-1.parquet: expected a Parquet file, but ")
    check_sent({rank: said for rank, (_, _, said, _) in every.items() if said})
    check_faults([said for *_, said in every.values() if said])


def check_sent(every):
    size = len(every)
    for rank, (table, gathered, arrived, received) in every.items():
        assert table == [[other, -other, 2**62] for other in range(size)]
        assert gathered == [[[other, other]] * other for other in range(size)]
        assert arrived == [rank + 10 * other for other in range(size) for _ in range(rank + other)]
        assert received == {
            "table": 8 * 3 * (size - 1),
            "gather": 8 * sum(other for other in range(size) if other != rank),
            "exchange": 8 * sum(rank + other for other in range(size) if other != rank),
        }


def check_faults(every):
    assert every[0] == every[1] == every[2]
    beginnings = [
        "InputError: checksum of the graph must be the same on every rank, got ",
        "InputError: gamma must be the same on every rank, got 1.0 on rank 0 and 2.0 on rank 2",
        "RankError: rank 2: no space left on the device",
        "InputError: data must be the same on every rank, got BipartiteGraph on rank 0 and files 'nowhere.parquet' on ",
        "InputError: nowhere.parquet: ",
        "InputError: half life must be the same on every rank, got nothing on rank 0 and 3 on rank 1",
        "nothing",  # after errors that all have met the group goes on
    ]
    for text, beginning in zip(every[0], beginnings, strict=True):
        assert text.startswith(beginning)


def test_a_rank_that_does_not_go_on_is_named_by_the_others():
    (first,) = gloo.run(work.stop_one_by_one, 4, without=[1, 2, 3]).values()
    failed, hangs, killed = first
    assert failed == "RankError: rank 3: no room for the rows of clusters"
    assert hangs == "RankError: no answer from rank 2"
    assert killed.startswith("RankError: rank 1 (process ")


def test_runs_over_divided_tables_resume_with_any_number_of_ranks():
    every = gloo.run(work.keep, 3)
    whole, said = every[0]["whole"], every[0]["again"]
    assert "there is a checkpoint already" in said
    assert every[0]["left"] == ["epoch-6", "run.json"]
    for found in every.values():
        for mine in (found["whole"], found["three"]):
            assert_run(mine, whole, rtol=0, atol=0)
        assert found["again"] == said
        assert "the checkpoint cannot be read (rank 0: " in found["gone"]
        assert found["elsewhere"].startswith("RankError: rank 2: /nowhere: no such checkpoint")
    assert_run(every[1]["two"], every[0]["two"], rtol=0, atol=0)
    for fewer in ("two", "one"):
        assert_run(every[0][fewer], whole, rtol=1e-4, atol=1e-5)


def assert_run(run, other, **closeness):
    for mine, one in zip(run[0], other[0], strict=True):
        np.testing.assert_allclose(mine, one, **closeness)
    assert run[1:] == other[1:] or closeness["rtol"]
    assert [loss for loss, _ in run[2]] == pytest.approx([loss for loss, _ in other[2]], rel=closeness["rtol"])


@pytest.mark.nightly("a graph of 400,000 edges over processes")
def test_a_large_graph():
    every = gloo.run(work.large, 4)
    alone = every[0][1]
    assert len(alone["trace"]) > 2
    for rank, (found, _) in every.items():
        assert len(found) == 2 * sum(rank < size for size in (1, 2, 3, 4))
        for cut, said in found.items():
            assert said == alone, (rank, cut)


@pytest.mark.nightly("a table of 300,000 rows over processes")
@pytest.mark.parametrize("size", [2, 4])
def test_a_large_table(size):
    (together, alone), *others = gloo.run(work.large_read, size).values()
    assert together == alone
    assert all(other == alone for other, _ in others)
