"""Training triples: every training interaction once an epoch, each with an item that its user did not choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from baco_gpu.checks import check_integer
from baco_gpu.cuda.launch import Launcher
from baco_gpu.cuda.plan import shared_grid
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.ops.counters import permuted, random_words, round_keys, shuffle_bits
from baco_gpu.ops.dispatch import launcher_of
from baco_gpu.parallel import in_parts

# Triples are drawn this many at once: enough to spread the cost of the calls over many batches, little enough (8 MB an
# array) to be no part of the memory that counts, and on a CPU to stay in its cache.
_CHUNK = 1 << 20
_CPU_CHUNK = 1 << 16
_PARALLEL = 1 << 12  # triples for which a second thread is worth waking


class UnseenItems:
    """Items that a user did not choose in training, each with equal chances.

    One costs one random number and one binary search, with no rejection: item number `r` among a user's unseen items is
    `r + c`, where `c` counts its seen items `a_0 < a_1 < ...` with `a_j - j <= r`; and `user * num_items + a_j - j` is
    one ascending array for all users.

    Attributes
    ----------
    starts : int64 tensor of shape (num_users + 1,)
        Where the seen items of a user begin.
    shifted : int64 tensor
        Those ascending keys, and padding.

    Raises
    ------
    InputError
        When users times items exceed 2^63.
    """

    def __init__(self, train: Interactions, device: torch.device) -> None:
        self.num_items = train.num_items
        if train.num_users * (train.num_items + 1) > np.iinfo(np.int64).max:
            raise InputError(f"users times items must be below 2^63, got {train.num_users} times {train.num_items}")
        seen = np.unique(train.users.astype(np.int64) * self.num_items + train.items)
        seen_users = seen // max(self.num_items, 1)
        starts = np.searchsorted(seen_users, np.arange(train.num_users + 1))
        # A seen item's place j among its user's is its position in the ascending keys, less the user's start.
        shifted = seen - (np.arange(len(seen)) - starts[seen_users])
        # Steps of powers of two reach past the longest list; what they find after the last one is no item.
        reach = int(np.diff(starts).max(initial=0)).bit_length()
        self._search_steps = [1 << bit for bit in reversed(range(reach))]
        shifted = np.concatenate([shifted, np.full(1 << reach, np.iinfo(np.int64).max)])
        self.starts = torch.as_tensor(starts, device=device)
        self.shifted = torch.as_tensor(shifted, device=device)
        self.counts = self.num_items - np.diff(starts)

    def draw(self, users: Tensor, words: Tensor) -> Tensor:
        """An item for each of these users, (n,), who have not seen every item, from random words, which are used up."""
        starts = self.starts.index_select(0, users)
        seen = self.starts.index_select(0, users + 1).sub_(starts)
        # The remainder of 63 random bits is uniform to within num_items / 2^63.
        rank = words.remainder_(self.num_items - seen)
        # A binary search of every user's items side by side: a fifth of what searchsorted takes in the whole array.
        # Beyond a user's items come those of later users, whose keys are larger than any of its own.
        key = users * self.num_items + rank
        place = starts - 1
        for step in self._search_steps:
            below = self.shifted.index_select(0, place + step) <= key
            place.add_(below, alpha=step)
        return rank.add_(place).sub_(starts).add_(1)


class TripleSampler:
    """Batches of triples: a user, an item that it chose, and one that it did not.

    Every epoch is a new permutation of the training interactions. A negative is one of the `UnseenItems`; a user who
    has seen every item has none, and its interactions are left out.

    Order and negatives are functions of (seed, epoch, place in the epoch) alone: the same on every device and for any
    batch size, and an epoch needs none of those before it (see `counters`). On a GPU a kernel draws them where CuPy is
    installed, on a CPU a compiled loop, and PyTorch's operations elsewhere.

    Parameters
    ----------
    train : Interactions
        Repeated pairs are sampled as often as they occur.
    batch_size : int
    seed : int
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
        self._unseen = UnseenItems(train, torch.device(device))
        self.device = self._unseen.starts.device  # with its index, where the caller said "cuda"
        users, items = train.users.astype(np.int64), train.items.astype(np.int64)
        usable = self._unseen.counts[users] > 0
        if not usable.any():
            raise InputError("there is no training interaction of a user who has not seen every item")
        self._users = torch.as_tensor(users[usable], device=self.device)
        self._items = torch.as_tensor(items[usable], device=self.device)
        self._seed = check_integer("seed", seed, minimum=0, maximum=2**64 - 1)
        self.num_samples = int(usable.sum())
        self.num_batches = -(-self.num_samples // self.batch_size)

    def epoch(self, number: int) -> Iterator[Tensor]:
        """Yield users, positives and negatives as int64 tensors of shape (3, batch), until every interaction was used.

        Parameters
        ----------
        number : int, at least 0
            Of the epoch; another number, another order and other negatives.
        """
        check_integer("number", number, minimum=0, maximum=2**32 - 1)
        chunk = _CPU_CHUNK if self.device.type == "cpu" else _CHUNK
        step = max(chunk // self.batch_size, 1) * self.batch_size
        for first in range(0, self.num_samples, step):
            yield from self.triples(number, first, min(step, self.num_samples - first)).split(self.batch_size, dim=1)

    def triples(self, epoch: int, first: int, count: int) -> Tensor:
        """The triples at places `first` to `first + count - 1` of an epoch, as an int64 tensor of shape (3, count)."""
        if self.device.type == "cpu":
            return self._triples_in_loop(epoch, first, count)
        launch = launcher_of(self.device) if self.device.type == "cuda" else None
        if launch is None:
            return self._triples_by_torch(epoch, first, count)
        with torch.cuda.device(self.device):
            return self._triples_by_kernel(launch, epoch, first, count)

    def _triples_by_torch(self, epoch: int, first: int, count: int) -> Tensor:
        places = torch.arange(first, first + count, device=self.device)
        samples = permuted(places, self.num_samples, self._seed, epoch)
        users = self._users.index_select(0, samples)
        others = self._unseen.draw(users, random_words(first, count, self._seed, epoch, self.device))
        return torch.stack((users, self._items.index_select(0, samples), others))

    def _triples_in_loop(self, epoch: int, first: int, count: int) -> Tensor:
        from baco_gpu.models.sampling_loop import draw_triples  # and Numba, which training on a GPU can do without

        triples = torch.empty((3, count), dtype=torch.int64)
        keys = np.array(list(round_keys(self._seed, epoch)), np.int64).view(np.uint64)
        in_parts(
            draw_triples,
            torch.get_num_threads() if count >= _PARALLEL else 1,
            first,
            *(tensor.numpy() for tensor in (self._users, self._items, self._unseen.starts, self._unseen.shifted)),
            self._unseen.num_items,
            shuffle_bits(self.num_samples),
            keys,
            np.uint64(self._seed),
            np.uint64(epoch),
            triples.numpy(),
        )
        return triples

    def _triples_by_kernel(self, launch: Launcher, epoch: int, first: int, count: int) -> Tensor:
        triples = self._users.new_empty((3, count))
        grid = shared_grid(count, launch.limits.threads, launch.processors)
        samples = [self._users, self._items, self.num_samples, shuffle_bits(self.num_samples)]
        seen = [self._unseen.starts, self._unseen.shifted, self._unseen.num_items]
        launch("draw_triples", (), grid, [*samples, *seen, self._seed, epoch, first, count, triples])
        return triples
