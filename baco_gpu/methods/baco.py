"""BACO as published (arXiv 2604.18351): five sweeps, and the resolution searched for."""

from baco_gpu.methods.clustered import Clustered

METHOD = Clustered(
    name="baco",
    order=8,
    former=("paper",),
    family="balanced",
    shared="co-clusters of BACO as published: five sweeps, gamma searched",
    when="to compare with the paper",
    source="BACO, arXiv 2604.18351",
    secondary="users",
    fixed={"solver": "paper", "gamma": None, "weights": None, "secondary": "users"},
)
