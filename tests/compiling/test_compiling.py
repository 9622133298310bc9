"""What is compiled is told of, and counted apart."""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest

from baco_gpu import compiling
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


LOOP = """
from typing import NamedTuple
import numpy as np
from baco_gpu.compiling import compiled

class Former(NamedTuple):
    values: np.ndarray

@compiled()
def total(pair):
    return pair.values.sum()
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A function that loads a text as a module, makes a call of its loop, and tells the result, hits and warnings."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_told", False)
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(text, class_name):
        (tmp_path / "kept_loop.py").write_text(text)
        monkeypatch.delitem(sys.modules, "kept_loop", raising=False)
        importlib.invalidate_caches()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            module = importlib.import_module("kept_loop")
            result = module.total(getattr(module, class_name)(np.arange(5)))
        return result, sum(module.total.stats.cache_hits.values()), [str(warning.message) for warning in told]

    yield load
    sys.modules.pop("kept_loop", None)


def test_a_cache_that_names_a_class_of_before_is_made_anew_and_it_is_said(loaded):
    assert loaded(LOOP, "Former") == (10, 0, [])
    assert loaded(LOOP, "Former") == (10, 1, [])
    renamed = LOOP.replace("Former", "RenamedClass")
    result, hits, (told,) = loaded(renamed, "RenamedClass")
    assert (result, hits) == (10, 0)
    assert "damaged or of another version" in told
    assert "Former" in told
    assert loaded(renamed, "RenamedClass") == (10, 1, [])


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_cache_that_is_cut_off_is_made_anew(loaded, tmp_path, suffix, share):
    loaded(LOOP, "Former")
    (file,) = Path(tmp_path / "cache").rglob(f"*.{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: round(share * len(content))])
    result, hits, (told,) = loaded(LOOP, "Former")
    assert (result, hits) == (10, 0)
    assert "damaged or of another version" in told
    assert loaded(LOOP, "Former") == (10, 1, [])
