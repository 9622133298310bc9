"""The nodes of the highest degree have half of the rows for themselves, a row each; the others draw one."""

from baco_gpu.methods.common.hashing import FREQUENT, hashed
from baco_gpu.methods.labelled import Labelled

METHOD = Labelled(
    name="frequency",
    family="hashing",
    shared="frequent nodes alone, the others draw a row",
    source="GraphHash, arXiv 2412.17245",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, frequent=FREQUENT),
)
