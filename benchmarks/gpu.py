"""The solver on planted graphs, on a GPU where there is one: `baco bench` under another name.

    python -m benchmarks.gpu --backend cuda --edges 1e6,1e7,1e8,1e9 --repeats 5 --out benchmarks/results/gpu.csv

For goals and for comparisons: nu-LPA reports 3.0e9 edges a second on an A100, loading not counted (arXiv 2411.11468).
"""

from __future__ import annotations

import sys

from baco_gpu.cli.main import run

if __name__ == "__main__":
    sys.argv[1:1] = ["bench"]
    run()
