"""Training triples: every training interaction once an epoch, each with an item that its user did not choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from baco_gpu.checks import check_integer
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError

# Negatives are drawn for this many interactions at once: enough to spread the cost of the calls over many batches,
# little enough (8 MB an array) to be no part of the memory that counts.
_CHUNK = 1 << 20
_RANDOM_BITS = 62


class BprSampler:
    """Batches of (user, positive, negative) for Bayesian personalised ranking.

    Every epoch is a new permutation of the training interactions. A negative is uniform over the items that are not
    among its user's training items, and costs one random number and one binary search, with no rejection: item number
    `r` among a user's unseen items is `r + c`, where `c` counts its seen items `a_0 < a_1 < ...` with
    `a_j - j <= r`; and `user * num_items + a_j - j` is one ascending array for all users.

    A user who has seen every item has no negative, and its interactions are left out.

    Parameters
    ----------
    train : Interactions
        Repeated pairs are sampled as often as they occur.
    batch_size : int
    seed : int
        The same seed on the same kind of device gives the same batches.
    device : torch.device or str

    Attributes
    ----------
    num_samples : int
        Triples in an epoch.
    num_batches : int
        Batches in an epoch; the last may be smaller.

    Raises
    ------
    InputError
        When there is nothing to sample, or users times items exceed 2^63.
    """

    def __init__(
        self, train: Interactions, batch_size: int, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.num_users, self.num_items = train.num_users, train.num_items
        if self.num_users * (self.num_items + 1) > np.iinfo(np.int64).max:
            raise InputError(f"users times items must be below 2^63, got {self.num_users} times {self.num_items}")
        users, items = train.users.astype(np.int64), train.items.astype(np.int64)
        seen = np.unique(users * self.num_items + items)
        seen_users = seen // max(self.num_items, 1)
        starts = np.searchsorted(seen_users, np.arange(self.num_users + 1))
        unseen = self.num_items - np.diff(starts)
        usable = unseen[users] > 0
        if not usable.any():
            raise InputError("there is no training interaction of a user who has not seen every item")
        # A seen item's place j among its user's is its position in the ascending keys, less the user's start.
        shifted = seen - (np.arange(len(seen)) - starts[seen_users])
        self.device = torch.device(device)
        self._users = torch.as_tensor(users[usable], device=self.device)
        self._items = torch.as_tensor(items[usable], device=self.device)
        self._shifted = torch.as_tensor(shifted, device=self.device)
        self._starts = torch.as_tensor(starts, device=self.device)
        self._unseen = torch.as_tensor(unseen, device=self.device)
        self._generator = torch.Generator(self.device).manual_seed(check_integer("seed", seed, minimum=0))
        self.num_samples = int(usable.sum())
        self.num_batches = -(-self.num_samples // self.batch_size)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield int64 (users, positives, negatives), each of shape (batch,), until every interaction was used once."""
        order = torch.randperm(self.num_samples, generator=self._generator, device=self.device)
        step = max(_CHUNK // self.batch_size, 1) * self.batch_size
        for chunk in order.split(step):
            users, positives = self._users[chunk], self._items[chunk]
            negatives = self.negatives(users)
            yield from zip(
                users.split(self.batch_size),
                positives.split(self.batch_size),
                negatives.split(self.batch_size),
                strict=True,
            )

    def negatives(self, users: Tensor) -> Tensor:
        """One unseen item for each of `users` (int64, none of whom has seen every item), as an int64 tensor."""
        # The remainder of 62 random bits is uniform to within num_items / 2^62.
        bits = torch.randint(1 << _RANDOM_BITS, users.shape, generator=self._generator, device=self.device)
        rank = bits % self._unseen[users]
        smaller = torch.searchsorted(self._shifted, users * self.num_items + rank, right=True)
        return rank + smaller - self._starts[users]
