"""Hashing: nodes share codebook rows by chance, without looking at the graph."""

from __future__ import annotations

import numpy as np

from baco_gpu.errors import InputError


def random_hashing(num_users: int, num_items: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of users and items, drawn uniformly; the rows are dealt to the two sides in proportion to their sizes.

    Returns
    -------
    int32 arrays of shapes (num_users,) and (num_items,), codes of each side from 0

    Raises
    ------
    InputError
        If there are fewer rows than non-empty sides.
    """
    sizes = (num_users, num_items)
    sides = sum(size > 0 for size in sizes)
    if rows < sides:
        raise InputError(f"rows must be at least {sides}, one for each side, got {rows}")
    user_rows = 0 if not num_users else rows if not num_items else round(rows * num_users / sum(sizes))
    user_rows = min(max(user_rows, 1), rows - 1) if sides == 2 else user_rows
    generator = np.random.default_rng(seed)
    users, items = (
        generator.integers(0, max(min(share, size), 1), size, dtype=np.int32)
        for share, size in zip((user_rows, rows - user_rows), sizes, strict=True)
    )
    return users, items
