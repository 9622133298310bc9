"""Frequent nodes have half of the rows for themselves, a row each; the others draw two (arXiv 2007.14523)."""

from baco_gpu.methods.common.hashing import FREQUENT, hashed
from baco_gpu.methods.labelled import Labelled

METHOD = Labelled(
    name="hybrid",
    family="hashing",
    shared="frequent nodes alone, the others draw two rows",
    source="Zhang et al., arXiv 2007.14523",
    by_side=True,
    solver=lambda graph, seed: lambda rows: hashed(graph, rows, seed, frequent=FREQUENT, double=True),
    second_rows=True,
)
