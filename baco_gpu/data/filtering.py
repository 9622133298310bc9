"""Leaving out users and items with few interactions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from baco_gpu.checks import check_integer
from baco_gpu.data.alone import ALONE
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.splits import merge_repeated
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.ranks import Summing


def k_core(interactions: Interactions, k: int, ranks: Summing = ALONE) -> Interactions:
    """Keep the largest part in which every user and every item has at least k distinct partners.

    Users and items with fewer are left out, then those that have fewer because of that, until all have k (Seidman,
    1983). The rest is numbered anew, in the old order, and the vocabularies lead to the raw ids.

    Of several `ranks`, which all make the call, each has interactions of its own, and no two the same pair.

    Raises
    ------
    InputError
        If k is no positive integer, or nothing is left.
    """
    check_integer("core", k, minimum=1)
    pairs = merge_repeated(interactions)
    users, items = pairs.users, pairs.items
    while True:
        user_degrees = np.asarray(ranks.add(np.bincount(users, minlength=interactions.num_users)))
        item_degrees = np.asarray(ranks.add(np.bincount(items, minlength=interactions.num_items)))
        kept = (user_degrees[users] >= k) & (item_degrees[items] >= k)
        left, all_left = ranks.table(int(kept.sum()), len(kept)).sum(axis=0)
        if left == all_left:
            break
        users, items = users[kept], items[kept]
    if left == 0:
        raise InputError(f"core must leave something, and no users and items have {k} interactions with one another")
    keep_user, keep_item = user_degrees > 0, item_degrees > 0
    if keep_user.all() and keep_item.all():
        return interactions
    rest = interactions.take(np.flatnonzero(keep_user[interactions.users] & keep_item[interactions.items]))
    user_codes, user_vocabulary = _renumbered(keep_user, interactions.user_vocabulary)
    item_codes, item_vocabulary = _renumbered(keep_item, interactions.item_vocabulary)
    return replace(
        rest,
        users=user_codes[rest.users],
        items=item_codes[rest.items],
        num_users=len(user_vocabulary),
        num_items=len(item_vocabulary),
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
    )


def _renumbered(keep: np.ndarray, vocabulary: Vocabulary | None) -> tuple[np.ndarray, Vocabulary]:
    """The new code of every old one (of those kept), and the raw ids of the new ones."""
    kept = np.flatnonzero(keep)
    codes = np.cumsum(keep) - 1
    dtype = np.int32 if len(keep) < 2**31 else np.int64
    raw = Vocabulary.from_sorted_integers(kept) if vocabulary is None else vocabulary.take(kept)
    return codes.astype(dtype), raw
