#!/bin/sh
# numba 0.68.1, numpy 2.4.6: an unsigned 64-bit integer and a plain Python integer are a signed one in a compiled loop. The same
# lines put half of all hashes into other buckets than NumPy does, and nothing is said.
#
# Guess before the run: uint64, as in NumPy 2; or float64, as in older releases of Numba.
# Seen: `x + 1` is int64 for x of uint64, and `h % 100` and `h // 2` take a hash of 2**63 or more for a negative number. Of 1,000
# multiplicative hashes 500 are in another bucket of 100. With `np.uint64(100)` all are in the same ones.
# So: in compiled code, every literal and every size that meets a hash is `np.uint64(...)`.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numba==0.68.1 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numba
import numpy as np


def buckets(ids, count):
    found = np.empty(len(ids), np.int64)
    for place in range(len(ids)):
        found[place] = (ids[place] * np.uint64(0x9E3779B97F4A7C15)) % count
    return found


def arithmetic(ids):
    return ids[0] + 1, ids[0] // 2


print("numba", numba.__version__, "numpy", np.__version__)
np.seterr(over="ignore")  # products of hashes wrap
ids = np.arange(1000, dtype=np.uint64)
compiled = numba.njit(buckets)
other = {}
for count in (100, np.uint64(100)):
    other[type(count)] = int((compiled(ids, count) != buckets(ids, count)).sum())
    print(f"hash % {count!r}: {other[type(count)]} of 1000 ids are in another bucket than NumPy's")
large = np.array([2**63 + 1], np.uint64)
plain, loop = arithmetic(large), numba.njit(arithmetic)(large)
print("x + 1 and x // 2 of x = 2**63 + 1: NumPy", [int(value) for value in plain], "compiled", list(loop))
signed = loop[0] < 0 and loop[1] < 0 and all(value > 0 for value in plain)
sys.exit(0 if other[int] == 500 and other[np.uint64] == 0 and signed else 1)
PYTHON
