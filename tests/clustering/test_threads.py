"""Fits after a fork, and on several Python threads at once, and where no compiled loop can be kept."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from baco_gpu import compiling

FITS = """
import os, sys, threading
import numba
import numpy as np
from baco_gpu import BalancedCoclustering, BipartiteGraph

rng = np.random.default_rng(0)
graph = BipartiteGraph.from_edges(rng.integers(0, 3000, 300_000), rng.integers(0, 2000, 300_000))  # more than a chunk

def fit():
    return BalancedCoclustering(budget=0.2).fit(graph).result_.labels_sha256
"""
FORKED = """
before = fit()
child = os.fork()
if not child:
    try:
        print(fit() == before, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fit() == before)
"""
THREADS = """
done = []
threads = [threading.Thread(target=lambda: done.extend(fit() for _ in range(3))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done), len(set(done)))
"""


def run(code, layer):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FITS + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.heavy("starts processes")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_a_fit_in_a_forked_child_gives_the_same_labels(layer):
    done = run(FORKED, layer)
    assert done.stdout.splitlines() == ["True", "0 True"], done.stderr


TORCH = """
import os, signal
import torch
from baco_gpu import parallel

def work():
    torch.randn(2000, 64).logsumexp(1)

torch.set_num_threads(2)
work()
child = os.fork()
if not child:
    signal.alarm(60)  # the end of a child that waits
    work()
    print(torch.get_num_threads(), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


@pytest.mark.heavy("starts processes")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_does_not_wait_for_threads_of_pytorch():
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["1", "0 2"], done.stderr


@pytest.mark.heavy("starts processes")
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_threads_that_fit_at_once_get_the_same_labels(layer):
    done = run(THREADS, layer)
    assert done.stdout.split() == ["9", "1"], done.stderr


def test_where_no_cache_can_be_kept_loops_run_without_and_it_is_said_once(monkeypatch):
    monkeypatch.setattr(compiling, "_told", False)
    space = {}
    exec("def first(x):\n    return x + 1\n\n\ndef second(x):\n    return x + 2\n", space)  # of no file
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loops = [compiling.compiled(nogil=True)(space[name]) for name in ("first", "second")]
    assert [loop.py_func(1) for loop in loops] == [2, 3]
    assert ["no folder that it can write its cache into" in str(warning.message) for warning in told] == [True]
