"""Full ranking: every item scored for every user with held-out items, and how high those items come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from baco_gpu.checks import check_integer
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.ops.tiled_ranking import Hidden, TiledRanking, rows_at_once
from baco_gpu.ranks import Ranks

_SCORES = {"cpu": 1 << 23, "cuda": 1 << 26}  # of one batch that is scored at once
_NOT_FINITE = "{} must be finite, it holds nan or infinity"


RowsOf = Callable[[Tensor], Tensor]


class _ItemsByUser(NamedTuple):
    """Distinct items of the users that are ranked, ascending by (place of the user, item).

    Those of the users from one place to another are a slice of the tensors, whose ends are known without asking the
    device.
    """

    offsets: np.ndarray
    places: Tensor
    items: Tensor

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows (places less `start`) and items of the users at places `start` to `stop - 1`."""
        part = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return self.places[part] - start, self.items[part]


@torch.no_grad()
def evaluate_ranking(
    user_repr: Tensor | RowsOf,
    item_repr: Tensor,
    exclude: Interactions | Sequence[Interactions],
    held_out: Interactions,
    ks: Iterable[int] = (10, 20, 50),
    *,
    batch_size: int | None = None,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Means over the users with held-out items of recall, capped recall and NDCG at every k.

    With `hits` the held-out items among a user's k best, and `n` the number of its held-out items:

    - `recall@k` = hits / n (the convention of LightGCN and RecBole),
    - `recall_capped@k` = hits / min(k, n) (the convention of BACO and GraphHash),
    - `ndcg@k` = sum of 1 / log2(1 + rank) over the hits, over the same sum for ranks 1..min(k, n).

    Scores are inner products. Equal scores rank by ascending item id, so that the result depends on nothing else:
    items that share a codebook row often score the same.

    All work is done on the device of the representations. It is waited for before the first batch, to learn that they
    are finite, and after the last one.

    Parameters
    ----------
    user_repr : floating tensor of shape (num_users, dim), or function
        Of int64 ids of some users that gives their rows: a table need not be floats all at once.
    item_repr : floating tensor of shape (num_items, dim)
    exclude : Interactions, or several
        Pairs that are not ranked. Published figures, on test too, leave out the training items and nothing else; add
        the validation part for a ranking of what is truly new. An excluded pair cannot be a hit.
    held_out : Interactions
        What to find; repeated pairs count once.
    ks : integers, each at least 1
        One above the number of items ranks them all.
    batch_size : int, optional
        Users ranked at once; by default up to 4,096 on a CPU, and on a GPU as many as keep the scores at 256 MB.
    ranks : Ranks, optional
        Processes that have the same representations and all make this call. They are dealt the batches in turns, and
        all get the metrics, one process's bit for bit. A function is called equally often on all of them.

    Returns
    -------
    dict of float, keys `recall@k`, `recall_capped@k`, `ndcg@k` for every k.

    Raises
    ------
    InputError
        When sizes disagree, representations are not finite, nothing is held out, or a k is below 1. What a function
        gives is known to be finite at the end.
    """
    excluded = [exclude] if isinstance(exclude, Interactions) else list(exclude)
    num_items = _check_tables(user_repr, item_repr, [*excluded, held_out])
    rows_of: RowsOf = user_repr.__getitem__ if isinstance(user_repr, Tensor) else user_repr
    cutoffs = sorted({check_integer("ks", k, minimum=1) for k in ks})
    if not cutoffs:
        raise InputError("ks must not be empty")
    if len(held_out) == 0:
        raise InputError("there are no held-out interactions to rank")
    device = item_repr.device
    if batch_size is not None:
        batch = check_integer("batch_size", batch_size, minimum=1)
    elif _in_tiles(item_repr):
        batch = rows_at_once(min(cutoffs[-1], num_items))
    else:
        batch = max(_SCORES.get(device.type, _SCORES["cpu"]) // num_items, 1)

    ranked = np.unique(held_out.users)
    wanted, hidden = _by_user([held_out], ranked, num_items, device), _by_user(excluded, ranked, num_items, device)
    users, counts = (torch.as_tensor(array, device=device) for array in (ranked, np.diff(wanted.offsets)))
    meter, finite = _Meter(cutoffs, num_items, device), torch.ones((), dtype=torch.bool, device=device)
    starts = range(0, len(ranked), batch)
    for start in starts if ranks is None else starts[ranks.rank :: ranks.size]:
        stop = min(start + batch, len(ranked))
        own = rows_of(users[start:stop])
        finite &= torch.isfinite(own).all()
        best, is_ranked = _best(own, item_repr, hidden, start, min(cutoffs[-1], num_items))
        rows, items = wanted.between(start, stop)
        # Row-major keys are ascending, since places are and items are within a place.
        keys = rows * num_items + items
        found = best + torch.arange(stop - start, device=device).unsqueeze(1) * num_items
        place = torch.searchsorted(keys, found).clamp_(max=len(keys) - 1)
        # A user with fewer rankable items than k has excluded ones at the end, which are no hits.
        hits = (keys[place] == found) & is_ranked
        meter.add(hits, counts[start:stop])
    if ranks is not None:
        if ranks.rank >= len(starts) % ranks.size > 0:  # others have one batch more
            rows_of(users[:0])
        finite = torch.as_tensor(ranks.table(int(finite)).all())
        meter.gather(ranks, len(starts))
    if not finite:
        raise InputError(_NOT_FINITE.format("user_repr"))
    return meter.means(len(ranked))


def _best(users: Tensor, items: Tensor, hidden: _ItemsByUser, start: int, k: int) -> tuple[Tensor, Tensor]:
    """The k best items of the users from place `start` on, (users, k), and whether each is one that may be ranked."""
    stop = start + len(users)
    if _in_tiles(users) and _in_tiles(items):
        own = Hidden(hidden.offsets[start : stop + 1], hidden.items.numpy())
        ranking = TiledRanking(users.numpy(), k, len(items), own, torch.get_num_threads())
        ranking.see(0, items.numpy())
        best = torch.from_numpy(ranking.best().items)
        return best.clamp(min=0), best >= 0
    return _best_at_once(users, items, hidden, start, k)


def _in_tiles(table: Tensor) -> bool:
    return not _asynchronous(table) and table.dtype == torch.float32


def _best_at_once(users: Tensor, items: Tensor, hidden: _ItemsByUser, start: int, k: int) -> tuple[Tensor, Tensor]:
    """`_best`, of all scores of these users, on any device."""
    scores = users @ items.T
    rows, columns = hidden.between(start, start + len(users))
    scores[rows, columns] = -torch.inf
    best = top_items(scores, k)
    return best, scores.gather(1, best) > -torch.inf


def top_items(scores: Tensor, k: int) -> Tensor:
    """The k best columns of every row, (rows, k), best first; equal scores by ascending column.

    `torch.topk` leaves open which of several equal scores it takes. So one more is taken than asked for: where it
    equals the last of the k, the columns that have that score are taken anew, lowest first. On a GPU they are in every
    row, since to learn in which ones they must be would be to wait for it.
    """
    width = scores.shape[1]
    values, columns = scores.topk(min(k + 1, width))
    if k < width:
        last = values[:, k - 1]
        values, columns, beyond = values[:, :k], columns[:, :k].contiguous(), values[:, k]
        if _asynchronous(scores):
            columns = _lowest_of_equals(scores, values, columns)
        else:
            tied = torch.nonzero(beyond == last).squeeze(1)
            if len(tied):
                columns[tied] = _lowest_of_equals(scores[tied], values[tied], columns[tied])
    columns = columns.sort(dim=1).values
    order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)


def _asynchronous(tensor: Tensor) -> bool:
    """Whether what is asked of a tensor's values has to be waited for."""
    return tensor.is_cuda


def _lowest_of_equals(scores: Tensor, values: Tensor, columns: Tensor) -> Tensor:
    """The best columns, those that equal the last of the best replaced by the lowest that have its score."""
    k, last = values.shape[1], values[:, -1:]
    above = (values > last).sum(1, keepdim=True)
    backwards = torch.arange(scores.shape[1], 0, -1, device=scores.device, dtype=torch.int32)
    lowest = torch.where(scores == last, backwards, 0).topk(k).indices
    position = torch.arange(k, device=scores.device).unsqueeze(0)
    return torch.where(position < above, columns, lowest.gather(1, (position - above).clamp_(min=0)))


class _Meter:
    """Sums of the metrics over the users of each batch, in float64 on the device; nothing is read before the end."""

    def __init__(self, cutoffs: list[int], num_items: int, device: torch.device) -> None:
        ranks = torch.arange(1, min(cutoffs[-1], num_items) + 1, dtype=torch.float64, device=device)
        self.cutoffs = cutoffs
        self.discounts = 1 / torch.log2(ranks + 1)
        self.ideal = self.discounts.cumsum(0)
        self.last = torch.tensor(cutoffs, device=device).clamp_(max=num_items) - 1
        self.sums: list[Tensor] = []

    def add(self, hits: Tensor, counts: Tensor) -> None:
        """Add users by their hits at every rank, bool (users, k), and their numbers of held-out items, (users,)."""
        found = hits.cumsum(1)[:, self.last].double()
        gain = (hits * self.discounts).cumsum(1)[:, self.last]
        capped = torch.minimum(counts.unsqueeze(1), self.last + 1)
        metrics = found / counts.unsqueeze(1), found / capped, gain / self.ideal[capped - 1]
        self.sums.append(torch.stack([metric.sum(0) for metric in metrics]))

    def gather(self, ranks: Ranks, batches: int) -> None:
        """Have the sums of all batches, which the ranks were dealt in turns, in their order."""
        own = torch.stack(self.sums) if self.sums else self.ideal.new_empty((0, 3, len(self.cutoffs)))
        counts = [len(range(rank, batches, ranks.size)) for rank in range(ranks.size)]
        every = [torch.as_tensor(part, device=own.device) for part in ranks.gather(own, counts)]
        self.sums = [every[batch % ranks.size][batch // ranks.size] for batch in range(batches)]

    def means(self, users: int) -> dict[str, float]:
        total = torch.zeros_like(self.sums[0])
        for part in self.sums:
            total += part
        table = (total / users).tolist()
        names = ("recall", "recall_capped", "ndcg")
        return {
            f"{name}@{k}": value
            for name, row in zip(names, table, strict=True)
            for k, value in zip(self.cutoffs, row, strict=True)
        }


def _check_tables(user_repr: Tensor | RowsOf, item_repr: Tensor, parts: list[Interactions]) -> int:
    given = {"user_repr": user_repr, "item_repr": item_repr}
    tables = {name: table for name, table in given.items() if isinstance(table, Tensor)}
    for name, table in tables.items():
        if table.ndim != 2 or not table.is_floating_point():
            raise InputError(f"{name} must be a floating matrix, got {table.dtype} of shape {tuple(table.shape)}")
        if not bool(torch.isfinite(table).all()):
            raise InputError(_NOT_FINITE.format(name))
    if isinstance(user_repr, Tensor) and user_repr.shape[1] != item_repr.shape[1]:
        raise InputError(
            f"user_repr and item_repr must have the same width, got {user_repr.shape[1]} and {item_repr.shape[1]}"
        )
    num_items = len(item_repr)
    for part in parts:
        num_users = len(user_repr) if isinstance(user_repr, Tensor) else part.num_users
        if (part.num_users, part.num_items) != (num_users, num_items):
            raise InputError(
                f"the representations are of {num_users} users and {num_items} items, "
                f"the interactions of {part.num_users} and {part.num_items}"
            )
    return num_items


def _by_user(parts: list[Interactions], ranked: np.ndarray, num_items: int, device: torch.device) -> _ItemsByUser:
    """The items of the users in `ranked`, ascending ids; a user's place is its position there."""
    keys = [np.empty(0, np.int64)]
    for part in parts:
        places = np.searchsorted(ranked, part.users)
        among = ranked[np.minimum(places, len(ranked) - 1)] == part.users
        keys.append(places[among] * num_items + part.items[among])
    places, items = np.divmod(np.unique(np.concatenate(keys)), num_items)
    offsets = np.searchsorted(places, np.arange(len(ranked) + 1))
    return _ItemsByUser(offsets, torch.as_tensor(places, device=device), torch.as_tensor(items, device=device))
