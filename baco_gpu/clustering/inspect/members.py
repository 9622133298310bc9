"""Who is in a co-cluster, and who is like whom: a finished clustering by raw id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.checks import check_choice, check_integer, shown
from baco_gpu.clustering.result import NO_LABEL, Assignment, ResultData
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pandas

SIDES = ("users", "items")


@dataclass(frozen=True, eq=False, repr=False)
class Cocluster:
    """The members of one co-cluster.

    Attributes
    ----------
    number : int
    users, items : pandas.DataFrame
        One line a member, highest degree first: id (raw), degree (where the result knows it), and secondary, the
        member's other co-cluster, where the side has them (-1 for none).
    """

    number: int
    users: pandas.DataFrame
    items: pandas.DataFrame

    def __repr__(self) -> str:
        return f"Cocluster({self.number}: {len(self.users):,} users, {len(self.items):,} items)"

    def _repr_html_(self) -> str:
        sides = "".join(
            f"<div><p>{len(members):,} {side}</p>{members.to_html(index=False, max_rows=20, border=0)}</div>"
            for side, members in (("users", self.users), ("items", self.items))
        )
        return f'<b>Co-cluster {self.number}</b><div style="display:flex;gap:3em">{sides}</div>'


def cocluster_members(result: ResultData, number: int) -> Cocluster:
    """The users and items whose label is `number`, by raw id, with their degrees.

    Raises
    ------
    InputError
        If there is no such co-cluster.
    """
    check_integer("number", number, minimum=0, maximum=result.num_clusters - 1)
    users, items = (
        _frame(side, _by_degree(side, np.flatnonzero(side.labels == number))) for side in (result.users, result.items)
    )
    return Cocluster(int(number), users, items)


def similar_nodes(result: ResultData, raw_id: Any, *, side: str, limit: int) -> pandas.DataFrame:
    """The nodes that share most co-clusters with one node of the same side.

    A node has one co-cluster, or two where it has a secondary one. The similarity of two nodes is the cosine of these
    sets: how many co-clusters they share, over the geometric mean of how many each has. That is the cosine of their
    embeddings if the rows of the codebook were orthogonal and of one length. Nodes that share none are left out, so
    that there may be fewer than `limit`; among equals the higher degree comes first.

    Parameters
    ----------
    raw_id : int or str
        The raw id of the node (its index where the result has no raw ids).
    side : {"items", "users"}
    limit : int

    Returns
    -------
    pandas.DataFrame
        At most `limit` lines: id (raw), similarity in (0, 1], cluster, degree and secondary (where known).

    Raises
    ------
    InputError
        If the id is unknown, or an argument out of range.
    """
    check_choice("side", side, SIDES)
    limit = check_integer("limit", limit, minimum=0)
    nodes: Assignment = getattr(result, side)
    found = np.ravel(nodes.index_of([raw_id]))
    if len(found) != 1:
        raise InputError(f"raw_id must be one id, got {shown(raw_id)}")
    index = int(found[0])
    own = [nodes.labels[index]]
    shared = np.zeros(len(nodes), dtype=np.int64)
    counts = np.ones(len(nodes), dtype=np.int64)
    if nodes.secondary is not None:
        counts += nodes.secondary != NO_LABEL
        if nodes.secondary[index] != NO_LABEL:
            own.append(nodes.secondary[index])
        shared += np.isin(nodes.secondary, own)
    shared += np.isin(nodes.labels, own)
    similarity = shared / np.sqrt(counts * counts[index])
    similarity[index] = 0.0

    candidates = _by_degree(nodes, np.flatnonzero(similarity))
    best = candidates[np.argsort(-similarity[candidates], kind="stable")][:limit]
    frame = _frame(nodes, best)
    frame.insert(1, "similarity", similarity[best])
    frame.insert(2, "cluster", nodes.labels[best])
    return frame


def _by_degree(side: Assignment, index: np.ndarray) -> np.ndarray:
    """`index`, highest degree first, where degrees are known."""
    return index if side.degrees is None else index[np.argsort(-side.degrees[index].astype(np.int64), kind="stable")]


def _frame(side: Assignment, index: np.ndarray) -> pandas.DataFrame:
    import pandas

    columns = {"id": side.raw_ids(index)}
    if side.degrees is not None:
        columns["degree"] = side.degrees[index]
    if side.secondary is not None:
        columns["secondary"] = side.secondary[index]
    return pandas.DataFrame(columns)
