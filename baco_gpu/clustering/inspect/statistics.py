"""A finished clustering in figures: sizes, balance, and its largest clusters by raw id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from baco_gpu.clustering.result import Assignment, ResultData


def describe(
    result: ResultData, *, largest: int = 5, members: int = 5, names: Mapping[Any, str] | None = None
) -> dict[str, Any]:
    """Describe a result in plain numbers and strings.

    Parameters
    ----------
    result : CoclusteringResult
    largest, members : int
        How many of the largest clusters, and how many members of each.
    names : mapping of raw ids to names, optional
        Of items; others stand for themselves.

    Returns
    -------
    dict with the keys
        summary : `CoclusteringResult.summary()` and the version and settings that made it
        balance : for "users" and "items" the clusters, largest, median and mean size, the Gini coefficient of the sizes
            (0 for equal ones, near 1 for one giant) and that of the volumes
        largest : the clusters with the most users and items, with their sizes, volumes and some members
    """
    sizes = [side.sizes(result.num_clusters) for side in (result.users, result.items)]
    order = np.argsort(-(sizes[0] + sizes[1]), kind="stable")[:largest]
    return {
        "summary": {**result.summary(), "version": result.version, "settings": result.settings},
        "balance": {
            name: _balance(size, volume)
            for name, size, volume in zip(("users", "items"), sizes, result.volumes, strict=True)
        },
        "largest": [
            {
                "cluster": int(cluster),
                "users": int(sizes[0][cluster]),
                "items": int(sizes[1][cluster]),
                "user_volume": float(result.volumes[0][cluster]),
                "item_volume": float(result.volumes[1][cluster]),
                "some_users": _members(result.users, cluster, members),
                "some_items": [(names or {}).get(item, item) for item in _members(result.items, cluster, members)],
            }
            for cluster in order
        ],
    }


def gini(values: np.ndarray) -> float:
    """The Gini coefficient of non-negative values: 0 where all are equal, (n - 1) / n where one has everything."""
    ascending = np.sort(np.asarray(values, dtype=np.float64))
    total = ascending.sum()
    if total == 0:
        return 0.0
    count = len(ascending)
    ranks = np.arange(1, count + 1)
    return float((2 * (ranks * ascending).sum() / total - (count + 1)) / count)


def _balance(sizes: np.ndarray, volumes: np.ndarray) -> dict[str, float]:
    occupied = sizes > 0
    held = sizes[occupied]
    return {
        "clusters": len(held),
        "largest": int(held.max(initial=0)),
        "median": float(np.median(held)) if len(held) else 0.0,
        "mean": float(held.mean()) if len(held) else 0.0,
        "gini_sizes": gini(held),
        "gini_volumes": gini(volumes[occupied]),
    }


def _members(side: Assignment, cluster: int, count: int) -> list[Any]:
    index = np.flatnonzero(side.labels == cluster)[:count]
    return np.asarray(side.raw_ids(index)).tolist()
