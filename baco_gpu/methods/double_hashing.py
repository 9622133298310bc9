"""Every node draws two rows, and its embedding is their mean (the published one is the sum, twice that)."""

from baco_gpu.methods.common.hashing import hashed
from baco_gpu.methods.labelled import Labelled

METHOD = Labelled(
    name="double",
    family="hashing",
    shared="every node draws two rows, and is their mean",
    source="GraphHash, arXiv 2412.17245",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, double=True),
    second_rows=True,
)
