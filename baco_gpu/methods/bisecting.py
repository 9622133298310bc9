"""Clusters of alike users and of alike items, and two rows for every id: see `baco_gpu.clustering.bisecting`."""

from baco_gpu.methods.clustered import Clustered

METHOD = Clustered(
    name="bisecting",
    order=9,
    family="spectral",
    shared="clusters of alike ids (bisecting k-means of singular vectors), and a second row",
    when="shared rows alone, of either model",
    source="bisecting k-means, Steinbach 2000; additive quantization, CVPR 2014",
    fixed={"solver": "bisecting", "gamma": None, "weights": None, "codebooks": "separate"},
    secondary="both",
    by_side=True,
)
