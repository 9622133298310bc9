"""Every node draws one row of its side."""

from baco_gpu.methods.common.hashing import hashed
from baco_gpu.methods.labelled import Labelled

METHOD = Labelled(
    name="random",
    family="hashing",
    shared="nodes that draw the same row",
    when="as the floor that sharing by data has to beat",
    source="GraphHash, arXiv 2412.17245",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed),
)
