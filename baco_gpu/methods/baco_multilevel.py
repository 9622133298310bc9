"""Ours: sweeps, merging and refinement meet a budget to the row."""

from baco_gpu.methods.clustered import Clustered

METHOD = Clustered(
    name="baco-multilevel",
    order=7,
    former=("codebook",),
    family="balanced",
    shared="co-clusters, ours: sweeps, merging and refinement",
    when="rows are to be shared, and the budget met to the row",
    source="this project",
    secondary="users",
    takes_result=True,
    by_side=True,
    leaves_open=True,
)
