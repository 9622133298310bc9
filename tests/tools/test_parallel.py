"""Loops run in parts by threads."""

from __future__ import annotations

import threading

import pytest

from baco_gpu.parallel import in_parts


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_every_part_runs_once_and_at_the_same_time(parts):
    together, seen = threading.Barrier(parts, timeout=60), []

    def loop(part, count, *arguments):
        together.wait()
        seen.append((part, count, *arguments))

    in_parts(loop, parts, "a", 2)
    assert sorted(seen) == [(part, parts, "a", 2) for part in range(parts)]


@pytest.mark.parametrize("failing", [0, 2])
def test_the_error_of_any_part_is_raised(failing):
    def loop(part, count):
        if part == failing:
            raise KeyError(part)

    with pytest.raises(KeyError, match=str(failing)):
        in_parts(loop, 3)
