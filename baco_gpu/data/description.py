"""What a set of interactions is like: counts, degrees, density, connected parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import merge_repeated

QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "max": 1.0}


def describe(interactions: Interactions) -> dict[str, Any]:
    """Figures of a set of interactions, as plain numbers.

    Returns
    -------
    dict
        num_users, num_items, num_interactions; num_pairs (distinct) and repeated (interactions beyond the first of a
        pair); density, the share of all possible pairs that are there; users_without and items_without an interaction;
        user_degrees and item_degrees (distinct partners): their mean, `QUANTILES` (each one a degree that occurs) and
        gini, 0 for even degrees and nearly 1 where few nodes have nearly all; components, the connected parts of those
        with an interaction, and largest_component, the share of their users and items in the largest; weights and
        timestamps: their smallest and largest, None where there are none; columns: the names of those that were read,
        by their role, None where no table was.
    """
    pairs = merge_repeated(interactions)
    degrees = user_degrees, item_degrees = degrees_of(pairs)
    possible = interactions.num_users * interactions.num_items
    components, largest = _components(pairs, degrees)
    return {
        "num_users": interactions.num_users,
        "num_items": interactions.num_items,
        "num_interactions": len(interactions),
        "num_pairs": len(pairs),
        "repeated": len(interactions) - len(pairs),
        "density": len(pairs) / possible if possible else 0.0,
        "users_without": int((user_degrees == 0).sum()),
        "items_without": int((item_degrees == 0).sum()),
        "user_degrees": _distribution(user_degrees),
        "item_degrees": _distribution(item_degrees),
        "components": components,
        "largest_component": largest,
        "weights": _range(interactions.weights),
        "timestamps": _range(interactions.timestamps),
        "columns": interactions.columns,
    }


def degrees_of(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """The number of distinct partners of every user and of every item, int64 arrays."""
    pairs = merge_repeated(interactions)
    return (
        np.bincount(pairs.users, minlength=pairs.num_users),
        np.bincount(pairs.items, minlength=pairs.num_items),
    )


def _distribution(degrees: np.ndarray) -> dict[str, float]:
    if len(degrees) == 0 or not degrees.any():
        return dict.fromkeys(("mean", *QUANTILES, "gini"), 0.0)
    values = np.quantile(degrees, list(QUANTILES.values()), method="inverted_cdf")
    size, total = len(degrees), float(degrees.sum())
    gini = (2 * float(np.arange(1, size + 1) @ np.sort(degrees)) / total - (size + 1)) / size
    return {
        "mean": float(degrees.mean()),
        **{name: int(value) for name, value in zip(QUANTILES, values, strict=True)},
        "gini": max(gini, 0.0),
    }


def _components(pairs: Interactions, degrees: tuple[np.ndarray, np.ndarray]) -> tuple[int, float]:
    """How many connected parts there are, and the share of the nodes (of those with an edge) in the largest."""
    if len(pairs) == 0:
        return 0, 0.0
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = pairs.num_users + pairs.num_items
    edges = pairs.users.astype(np.int64), pairs.items.astype(np.int64) + pairs.num_users
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), edges), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    sizes = np.bincount(labels[np.concatenate(degrees) > 0])
    return int((sizes > 0).sum()), float(sizes.max() / sizes.sum())


def _range(values: np.ndarray | None) -> dict[str, float] | None:
    if values is None or len(values) == 0:
        return None
    return {"min": values.min().item(), "max": values.max().item()}
