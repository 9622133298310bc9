#!/bin/sh
# pymetis 2025.2.2 (METIS 5): asked for many parts of few nodes each, k-way partitioning, which `part_graph` takes for
# more than 8 parts, leaves a large share of them without a node, and says nothing; recursive bisection leaves none.
#
# Guess before the run: parts may be uneven, but with twice as many nodes as parts every part has one.
# Seen, on a graph of 20,000 nodes and 60,000 edges, most of few edges, asked for 10,000 parts: k-way uses 7,420, and
# recursive bisection all 10,000. From about 70% of the nodes on, that leaves some empty too, and prints
# "Cannot bisect a graph with 0 vertices!".
# So: a search for the number of parts that gives so many groups must count groups, and needs recursive=True.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pymetis==2025.2.2 scipy==1.17.1 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time
from importlib.metadata import version

import numpy as np
import pymetis
import scipy.sparse

NODES, EDGES, PARTS = 20_000, 60_000, 10_000
ends = (NODES * np.random.default_rng(0).random((2, EDGES)) ** 2).astype(int)  # some have many edges, most few
ends = ends[:, ends[0] != ends[1]]
graph = scipy.sparse.coo_array((np.ones(ends.shape[1]), ends), shape=(NODES, NODES)).tocsr()
graph = (graph + graph.T).tocsr()
adjacency = pymetis.CSRAdjacency(graph.indptr.astype(np.int64), graph.indices.astype(np.int64))
print("pymetis", version("pymetis"))
used = {}
for name, recursive in (("as called by default", None), ("recursive", True)):
    start = time.perf_counter()
    options = pymetis.Options(seed=0)
    cut, parts = pymetis.part_graph(PARTS, adjacency, recursive=recursive, options=options)
    used[name] = len(set(parts))
    print(f"{name}: {used[name]} of {PARTS} parts used, {cut} edges cut, {time.perf_counter() - start:.1f} s")
sys.exit(0 if used["as called by default"] < 0.8 * PARTS and used["recursive"] == PARTS else 1)
PYTHON
