"""Loops run by several threads."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from baco_gpu.parallel import in_parts, run


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_every_part_runs_once_and_at_the_same_time(parts):
    together, seen = threading.Barrier(parts, timeout=60), []

    def loop(part, count, *arguments):
        together.wait()
        seen.append((part, count, *arguments))
        return part

    assert in_parts(loop, parts, "a", 2) == list(range(parts))
    assert sorted(seen) == [(part, parts, "a", 2) for part in range(parts)]


@pytest.mark.parametrize("failing", [0, 2])
def test_the_error_of_any_part_is_raised(failing):
    def loop(part, count):
        if part == failing:
            raise KeyError(part)

    with pytest.raises(KeyError, match=str(failing)):
        in_parts(loop, 3)


def test_the_first_call_is_made_here_and_the_others_elsewhere():
    here, *others = run([threading.get_ident] * 4)
    assert here == threading.get_ident() not in others


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_all_calls_have_ended_when_one_fails(failing, error):
    ended = []

    def call(number):
        if number == failing:
            raise error
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(error):
        run([partial(call, number) for number in range(3)])
    assert len(ended) == 2
