"""k-means of many points into many clusters, the same for any number of threads."""

from __future__ import annotations

import numpy as np

_BATCH = 8192
_CAREFUL_CLUSTERS = 500


def k_means(points: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Labels of the points, by mini-batches: whole passes are added up in an order that changes with the threads.

    Many clusters start from random points: k-means++ would take longer than all that follows it.
    """
    from sklearn.cluster import MiniBatchKMeans

    if clusters >= len(points):
        return np.arange(len(points))
    start = {"init": "k-means++", "n_init": 3} if clusters <= _CAREFUL_CLUSTERS else {"init": "random", "n_init": 1}
    model = MiniBatchKMeans(clusters, batch_size=_BATCH, random_state=seed, reassignment_ratio=0.0, **start)
    return model.fit_predict(points)
