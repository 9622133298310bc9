"""The picture of a set's degrees: how many users and items have at least so many partners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def degree_figure(user_degrees: np.ndarray, item_degrees: np.ndarray, title: str) -> Figure:
    """Draw the share of users, and of items, with at least d partners over d, both axes logarithmic.

    Parameters
    ----------
    user_degrees, item_degrees : integer arrays, the number of distinct partners of every user and item
        Those without any are left out.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    # Okabe and Ito's colours, which colour-blind readers can tell apart.
    sides = (("users", user_degrees, "#0072B2", "o"), ("items", item_degrees, "#E69F00", "s"))
    for name, degrees, colour, marker in sides:
        values, counts = np.unique(degrees[degrees > 0], return_counts=True)
        shares = counts[::-1].cumsum()[::-1] / max(counts.sum(), 1)
        label = f"{counts.sum():,} {name}, median {np.median(degrees[degrees > 0]):g}" if len(values) else f"no {name}"
        axes.plot(values, shares, color=colour, marker=marker, markersize=3, linewidth=1, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("distinct partners, at least")
    axes.set_ylabel("share of the side")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(visible(title), parse_math=False)
    return figure
