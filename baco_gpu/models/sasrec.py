"""SASRec: what a user chooses next, from the sequence of what it chose, by self-attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer, check_number
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.runs import within_runs
from baco_gpu.errors import InputError
from baco_gpu.models.losses import BatchRows, Objective
from baco_gpu.models.model import ITEMS, Model, Table, option
from baco_gpu.models.sampling import UnseenItems
from baco_gpu.ops.counters import DROPOUT, chances_of, odd_words, permuted, random_words

NOTHING = -1  # the item of a place before the first: its row is zeros, whatever the table
_USERS_AT_ONCE = 512


@dataclass(frozen=True)
class SASRecOptions:
    """Options of `SASRec`."""

    length: int = option(50, "Items of a sequence that the next one is predicted from.")
    blocks: int = option(2, "Self-attention blocks.")
    dropout: float = option(0.2, "Share of values that a training step leaves out.")

    def __post_init__(self) -> None:
        check_integer("length", self.length, minimum=1)
        check_integer("blocks", self.blocks, minimum=0)
        check_number("dropout", self.dropout, minimum=0.0, maximum=0.9)


class SASRec(Model, name="sasrec"):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781), with one head.

    A user's vector is what attention makes of the user's last training items, in the order of time; an item's is its
    row. Before its first item a sequence holds nothing, from which that item is predicted: so a user without training
    interactions has a vector, too. Where timestamps are equal, what comes later in the data is later.

    Parameters
    ----------
    item_embedding : EmbeddingTable or nn.Embedding
        Rows of items; padding needs none.
    train : Interactions
        The training part, with timestamps.
    options : SASRecOptions
    """

    table_names = (ITEMS,)
    Options = SASRecOptions
    needs_timestamps = True
    history: Tensor
    starts: Tensor
    odd: Tensor

    def __init__(
        self,
        item_embedding: Table,
        train: Interactions,
        options: SASRecOptions = SASRecOptions(),
    ) -> None:
        super().__init__()
        dim = item_embedding.embedding_dim
        self.options = options
        self.item_embedding = item_embedding
        self.positions = nn.Parameter(torch.zeros(options.length, dim))
        self.blocks = nn.ModuleList(_Block(dim) for _ in range(options.blocks))
        self.norm = nn.LayerNorm(dim)
        history, starts = histories(train)
        # Not persistent: they come from the data, and a checkpoint of a model need not carry its training set.
        self.register_buffer("history", torch.as_tensor(history), persistent=False)
        self.register_buffer("starts", torch.as_tensor(starts), persistent=False)
        odd = odd_words((1 + 2 * options.blocks) * dim, 0, torch.device("cpu"))
        self.register_buffer("odd", odd.view(-1, dim), persistent=False)

    @classmethod
    def build(cls, tables: Mapping[str, Table], split: SplitInteractions, options: SASRecOptions) -> Self:
        return cls(tables[ITEMS], split.train, options)

    @property
    def tables(self) -> dict[str, Table]:
        return {ITEMS: self.item_embedding}

    @property
    def num_users(self) -> int:
        return len(self.starts) - 1

    @torch.no_grad()
    def initialize(self, std: float, generator: torch.Generator) -> None:
        """As of `Model`; positions are drawn as rows are, and weights as Glorot and Bengio's (AISTATS 2010)."""
        super().initialize(std, generator)
        self.positions.copy_(torch.empty(self.positions.shape).normal_(0.0, std, generator=generator))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = math.sqrt(6 / (module.in_features + module.out_features))
                module.weight.copy_(torch.empty(module.weight.shape).uniform_(-bound, bound, generator=generator))
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def states(self, items: Tensor, words: Tensor | None = None) -> Tensor:
        """What is known of the next item at every place of sequences.

        Parameters
        ----------
        items : int64 tensor of shape (sequences, length)
            `NOTHING` before a sequence's first item, and nowhere else.
        words : int64 tensor of the same shape, optional
            Random numbers that say what is left out; nothing is where there are none.

        Returns
        -------
        Floating tensor of shape (sequences, length, dim). A place depends on the items up to it, and no others.
        """
        there = items != NOTHING
        rows = self.item_embedding(items[there])
        hidden = rows.new_zeros((*items.shape, rows.shape[-1])).index_put((there,), rows * math.sqrt(rows.shape[-1]))
        count = items.shape[1]
        hidden = self._thinned(hidden + self.positions, words, 0)
        # A place sees itself in any case, so that places of nothing, which no other sees, are numbers.
        itself = torch.eye(count, dtype=torch.bool, device=items.device)
        visible = (torch.ones_like(itself).tril() & there[:, None, :]) | itself
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            hidden = hidden + self._thinned(block.attend(hidden, visible), words, 2 * number + 1)
            hidden = hidden + self._thinned(block.transform(hidden), words, 2 * number + 2)
        vectors: Tensor = self.norm(hidden)
        return vectors

    def loss(self, batch: Tensor, objective: Objective = Objective()) -> Tensor:  # noqa: B008 (immutable)
        """The objective on the next items of sequences, in the mean over them; see `SequenceSampler`."""
        items, chosen, others, words = batch
        asked = chosen != NOTHING
        users = self.states(items, words)[asked]
        rows = self.item_embedding(objective.items_of(chosen[asked], others[asked]))
        return objective(BatchRows(users, rows, users[:0], rows))

    def user_vectors(self, ids: Tensor) -> Tensor:
        return torch.cat([self._last_states(some) for some in ids.split(_USERS_AT_ONCE)])

    def item_vectors(self) -> Tensor:
        return self.item_embedding.weight

    def lookups(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        return self.user_vectors, self.item_embedding

    def sampler(
        self, split: SplitInteractions, *, batch_size: int, seed: int, device: torch.device | str = "cpu"
    ) -> SequenceSampler:
        return SequenceSampler(split.train, self.options.length, batch_size, seed=seed, device=device)

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        super().check_training(std=std, cuda_graph=cuda_graph)
        if cuda_graph:
            raise InputError(f"cuda_graph must be False for model {self.name!r}, whose sequences differ in length")

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self.options).items())

    def _last_states(self, users: Tensor) -> Tensor:
        items = items_before(self.history, self.starts, users, self.starts[users + 1], self.options.length)
        return self.states(items)[:, -1]

    def _thinned(self, values: Tensor, words: Tensor | None, place: int) -> Tensor:
        """Dropout at a place of the network: the values that are left are larger by as much as others are left out."""
        share = self.options.dropout
        if words is None or not share:
            return values
        return values * (chances_of(words, self.odd[place]) >= share) / (1 - share)


class _Block(nn.Module):
    """Self-attention, and a transformation of every place on its own, each of normalised values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention_norm, self.transform_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def attend(self, hidden: Tensor, visible: Tensor) -> Tensor:
        values = self.attention_norm(hidden)
        scores = self.query(values) @ self.key(values).transpose(1, 2) / math.sqrt(values.shape[-1])
        attended: Tensor = scores.masked_fill(~visible, -math.inf).softmax(-1) @ self.value(values)
        return attended

    def transform(self, hidden: Tensor) -> Tensor:
        transformed: Tensor = self.outer(self.inner(self.transform_norm(hidden)).relu())
        return transformed


class SequenceSampler:
    """Batches of pieces of sequences: every training interaction once an epoch, as the next item of what came before.

    A user's sequence is cut from its end into pieces of `length` next items, the first one as long as is left. Places
    in front of it hold `NOTHING`. Order, negatives (`UnseenItems`) and dropout are functions of (seed, epoch, place in
    the epoch) alone. A user who has seen every item has no negatives, and is left out.

    Parameters
    ----------
    train : Interactions
        With timestamps.
    length : int
    batch_size : int
        Interactions of a batch, as nearly as whole pieces come to; at least one piece.
    seed : int
    device : torch.device or str

    Attributes
    ----------
    num_samples : int
        Pieces.
    """

    def __init__(
        self, train: Interactions, length: int, batch_size: int, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.length = length
        self.batch_size = max(check_integer("batch_size", batch_size, minimum=1) // length, 1)
        self._seed = check_integer("seed", seed, minimum=0, maximum=2**64 - 1)
        self._unseen = UnseenItems(train, torch.device(device))
        self.device = self._unseen.starts.device  # with its index, where the caller said "cuda"
        history, starts = histories(train)
        pieces = np.where(self._unseen.counts > 0, -(-np.diff(starts) // length), 0)
        users = np.repeat(np.arange(train.num_users), pieces)
        if not len(users):
            raise InputError("there is no training interaction of a user who has not seen every item")
        from_the_end = within_runs(pieces)
        self.num_samples = len(users)
        self._history, self._starts = (torch.as_tensor(array, device=self.device) for array in (history, starts))
        self._users = torch.as_tensor(users, device=self.device)
        self._ends = torch.as_tensor(starts[users + 1] - from_the_end * length, device=self.device)

    def epoch(self, number: int) -> Iterator[Tensor]:
        """Yield items, next items, one other each and random words: int64 tensors of shape (4, pieces, length)."""
        check_integer("number", number, minimum=0, maximum=2**32 - 1)
        for first in range(0, self.num_samples, self.batch_size):
            count = min(self.batch_size, self.num_samples - first)
            places = torch.arange(first, first + count, device=self.device)
            pieces = permuted(places, self.num_samples, self._seed, number)
            users, ends = self._users[pieces], self._ends[pieces]
            chosen, items = (
                items_before(self._history, self._starts, users, last, self.length) for last in (ends, ends - 1)
            )
            where = first * self.length, count * self.length, self._seed, number, self.device
            others = self._unseen.draw(users.repeat_interleave(self.length), random_words(*where)).view(chosen.shape)
            others = others.where(chosen != NOTHING, NOTHING)
            yield torch.stack((items, chosen, others, random_words(*where, DROPOUT).view(chosen.shape)))


def histories(train: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Items user by user in the order of time, and where each user's begin (one more at the end); int64."""
    counts = np.bincount(train.users, minlength=train.num_users)
    return train.items[train.in_order()].astype(np.int64), np.concatenate(([0], np.cumsum(counts)))


def items_before(history: Tensor, starts: Tensor, users: Tensor, ends: Tensor, length: int) -> Tensor:
    """The `length` items of users up to places of the history, `NOTHING` before the first: (len(users), length)."""
    places = ends[:, None] + torch.arange(-length, 0, device=ends.device)
    there = places >= starts[users][:, None]
    if not len(history):
        return torch.full_like(places, NOTHING)
    return history[places.clamp_(min=0)].where(there, NOTHING)
