"""What is compiled is told of, and counted apart."""

from __future__ import annotations

import time

import numba
import pytest

from baco_gpu.clustering.solve.cocluster import timed
from baco_gpu.compiling import compiled
from baco_gpu.stopwatch import PHASE, Stopwatch, telling

pytestmark = pytest.mark.heavy("compiles")


def first_call_and_second():
    loop = numba.njit(lambda count: count + 1)
    watches = []
    for _ in range(2):
        watch = Stopwatch()
        assert loop(1) == 2
        watches.append((watch.seconds, watch.compiling))
    return watches


def test_the_first_call_is_compiled_and_that_is_not_its_time():
    compiled()
    (_, compiling), (_, again) = first_call_and_second()
    assert compiling > 0
    assert again == 0


def test_time_beside_compiling_is_counted():
    compiled()
    watch = Stopwatch()
    time.sleep(0.01)
    assert watch.seconds >= 0.01
    assert watch.compiling == 0


def test_it_is_told_once_and_by_the_innermost():
    compiled()
    told, outside = [], []
    with telling(lambda *arguments: outside.append(arguments)), telling(lambda *arguments: told.append(arguments)):
        first_call_and_second()
        first_call_and_second()
    assert outside == []
    (start, end) = told
    assert start == (PHASE, 0, 1, "")
    assert end[:3] == (PHASE, 1, 1)
    assert end[3].endswith(" s")
    with telling(lambda *arguments: outside.append(arguments)):
        pass
    assert outside == []


def test_phases_leave_it_out():
    compiled()
    seconds = {}
    with timed(seconds, "solve"):
        first_call_and_second()
    with timed(seconds, "solve"):
        pass
    assert list(seconds) == ["solve", "compile"]
    assert min(seconds.values()) > 0
