"""Weights of implicit interactions: how often a pair appears, and how long ago."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from baco_gpu.checks import check_choice, check_number
from baco_gpu.data.alone import ALONE
from baco_gpu.data.exact_sum import ExactSum
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import merge_repeated
from baco_gpu.errors import InputError
from baco_gpu.ranks import Summing

WEIGHTINGS = ("once", "counts", "recency")
_LEAST_SHARE = 2.0**51  # of all weights, what one may be: the solvers' fixed point holds no less


def check_weighting(weighting: str | None, half_life: float | None) -> None:
    """Raise InputError unless the weighting is a known one (or None), and has a half-life just if it needs one."""
    if weighting is not None:
        check_choice("weighting", weighting, WEIGHTINGS)
    if (half_life is not None) != (weighting == "recency"):
        raise InputError(
            "half_life must be given for weighting 'recency', and for it alone, "
            f"got weighting {weighting!r} and half_life {half_life!r}"
        )
    if half_life is not None:
        check_number("half_life", half_life, above=0)


def weighted(
    interactions: Interactions, weighting: str, half_life: float | None = None, ranks: Summing = ALONE
) -> Interactions:
    """Make one interaction of every pair, weighted by all that the pair had.

    Parameters
    ----------
    interactions : Interactions
        With timestamps for "recency". What they weigh already (1 where nothing says otherwise) is a factor of "counts"
        and "recency".
    weighting : {"once", "counts", "recency"}
        "once": every pair weighs 1. "counts": the sum over its interactions. "recency": the same, an interaction that
        is older than the latest of all by one half-life counting a half, by two a quarter, and so on.
    half_life : float, optional
        For "recency": in the unit of the timestamps (seconds for columns of dates).
    ranks : Summing, optional
        The processes that have interactions of their own each, and no two the same pair; all make the call.

    Raises
    ------
    InputError
        If the weighting is unknown, has no half-life where it needs one (or one where it needs none), timestamps are
        missing, or the half-life is so short that old interactions would weigh nothing.
    """
    check_weighting(weighting, half_life)
    if weighting == "once":
        return merge_repeated(replace(interactions, weights=None))
    weights = np.ones(len(interactions)) if interactions.weights is None else interactions.weights
    if half_life is not None:
        if interactions.timestamps is None:
            raise InputError("weighting 'recency' needs interactions with timestamps, got none")
        age = (_latest(interactions.timestamps, ranks) - interactions.timestamps).astype(np.float64)
        weights = weights * np.exp2(-age / half_life)
        total = float(ExactSum(np.asarray(ranks.add(ExactSum.of(weights).bins))))
        too_light = bool((weights * _LEAST_SHARE < total).any())
        found = ranks.table(len(weights), too_light, _as_integer(age.max(initial=0.0)))
        if found[:, 1].any():
            oldest = float(found[:, 2].copy().view(np.float64).max())
            halvings = math.log2(_LEAST_SHARE / found[:, 0].sum()) / 2
            raise InputError(
                "half_life must leave the oldest interactions a weight that counts beside the others, got "
                f"{half_life:g} where the timestamps span {oldest:g}: {oldest / halvings:.3g} does"
            )
    return merge_repeated(replace(interactions, weights=weights))


def _latest(timestamps: np.ndarray, ranks: Summing) -> np.generic | int:
    """The latest timestamp of all ranks, of their dtype; 0 where there is none."""
    timestamps = timestamps.astype(np.float64 if timestamps.dtype.kind == "f" else np.int64, copy=False)
    latest = timestamps.max() if len(timestamps) else timestamps.dtype.type(0)
    found = ranks.table(len(timestamps), _as_integer(latest))
    every = found[:, 1].copy().view(timestamps.dtype)[found[:, 0] > 0]
    return every.max() if len(every) else 0


def _as_integer(number: np.generic) -> int:
    """A 64-bit number's bits."""
    return int(np.array(number).view(np.int64))
