"""The picture of the largest co-clusters, with the names of what is in them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.clustering.inspect.members import SIDES
from baco_gpu.clustering.result import ResultData
from baco_gpu.errors import InputError
from baco_gpu.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"users": "#0072B2", "items": "#E69F00"}
_LETTERS = 30  # of a name


def named_clusters(
    result: ResultData,
    names: Mapping[Any, str] | None = None,
    *,
    side: str = "items",
    count: int = 6,
    members: int = 8,
) -> Figure:
    """The co-clusters of one side with most members, a panel each: who is in them, the best known first.

    Parameters
    ----------
    names : mapping of raw ids to names, optional
        `baco_gpu.data.names.item_names` has those of sets that come with some. Other ids stand for themselves.
    side : {"items", "users"}
    count, members : int
        How many co-clusters, and how many members of each.

    Raises
    ------
    InputError
        If there is no such side, a number is below 1, or it is not known how many interactions members have.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    check_choice("side", side, SIDES)
    check_integer("count", count, minimum=1)
    check_integer("members", members, minimum=1)
    own = result.items if side == "items" else result.users
    degrees = own.degrees
    if degrees is None:
        raise InputError("result must know the degrees of its nodes, as one that was fitted does, got none")
    sizes = own.sizes(result.num_clusters)
    largest = np.argsort(-sizes, kind="stable")[: min(count, int((sizes > 0).sum()))]
    across = min(3, max(len(largest), 1))
    down = -(-max(len(largest), 1) // across)
    figure = Figure(figsize=(4.2 * across, (0.9 + 0.26 * members) * down), layout="constrained")
    panels = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axes, label in zip(panels, largest, strict=False):
        nodes = np.flatnonzero(own.labels == label)
        best = nodes[np.argsort(-degrees[nodes], kind="stable")][:members]
        ids = np.asarray(own.raw_ids(best)).tolist()
        texts = [visible((names or {}).get(raw, raw)) for raw in ids]
        places = np.arange(len(best))
        axes.barh(places, degrees[best], color=_COLOURS[side], height=0.7)
        axes.set_yticks(
            places, [textwrap.shorten(text, _LETTERS, placeholder="...") for text in texts], parse_math=False
        )
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(members - 0.5, -0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"co-cluster {label}: {len(nodes):,} {side}", loc="left", fontsize=10)
    for axes in panels[: len(largest)][-across:]:
        axes.set_xlabel("interactions")
    for axes in panels[len(largest) :]:
        axes.set_axis_off()
    return figure
