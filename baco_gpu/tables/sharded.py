"""A full table of which every rank has some rows: for one that is too large for a rank."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.ops.reference import check_indices
from baco_gpu.ranks import Ranks
from baco_gpu.tables.embedding_table import EmbeddingTable, State, StoredPart
from baco_gpu.tables.full import FullTable

_DRAWN = 1 << 12  # rows at once; a multiple of 16, by which PyTorch draws the same numbers at once and in pieces


class ShardedTable(EmbeddingTable, known_by={"shard": 2}):
    """A row of floats for every id, of which each rank has a run, as `torch.chunk` and DTensor's Shard(0) cut it.

    A lookup asks the owners of its distinct ids for their rows, and its gradient goes back to them, added up in the
    order of ranks. All ranks call it equally often, with any ids, none among them, and nobody has the whole table,
    unless `weight` or `read_rows` is asked for. TorchRec's row-wise tables and DTensor's RowwiseParallel do the same,
    but that the one needs FBGEMM, and the other the same ids on all ranks, and at least a row on each.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    ranks : Ranks, optional
        The processes, which all make the table. Without them it is whole.

    Attributes
    ----------
    shard : Parameter of shape (own rows, embedding_dim)
    begin : int
        The id of the first of them.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, ranks: Ranks | None = None) -> None:
        super().__init__()
        self.num_embeddings = check_integer("num_embeddings", num_embeddings, minimum=0)
        self.embedding_dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        self.padding_idx = None
        self.ranks = ranks
        size, rank = (1, 0) if ranks is None else (ranks.size, ranks.rank)
        self.run = -(-num_embeddings // size)  # rows of a rank, but for the last ones
        self.bounds = np.minimum(np.arange(size + 1) * self.run, num_embeddings)
        self.begin, end = self.bounds[rank : rank + 2].tolist()
        self.shard = nn.Parameter(torch.empty(end - self.begin, embedding_dim))
        nn.init.normal_(self.shard)

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> nn.Module:
        raise InputError("a sharded table is made with its ranks, and its state is that of one rank alone")

    def forward(self, indices: Tensor) -> Tensor:
        """The rows (*shape, embedding_dim) of int32 or int64 ids of any shape; InputError for one out of range."""
        check_indices(indices)
        if indices.numel() and not (indices.min() >= 0 and indices.max() < self.num_embeddings):
            raise InputError(f"indices must be from 0 to {self.num_embeddings - 1}, got others")
        if self.ranks is None:
            return functional.embedding(indices, self.shard)
        distinct, places = torch.unique(indices, return_inverse=True)
        rows: Tensor = _Lookup.apply(self.shard, distinct.long(), self, self.ranks)
        return functional.embedding(places, rows)

    @property
    def weight(self) -> Tensor:
        """The whole table, of shape (num_embeddings, embedding_dim), on every rank."""
        if self.ranks is None:
            return self.shard
        whole: Tensor = _Whole.apply(self.shard, self, self.ranks)
        return whole

    def stored(self) -> list[StoredPart]:
        values = self.num_embeddings * self.embedding_dim
        return [StoredPart(self.shard, values, values * self.shard.itemsize, self.num_embeddings)]

    @property
    def float_rows(self) -> Tensor:
        return self.shard

    @torch.no_grad()
    def initialize(self, std: float, generator: torch.Generator | None = None) -> None:
        """As of `EmbeddingTable`: the rows are those of a whole table, which are drawn a piece at a time."""
        first = 0
        while first < self.num_embeddings:
            last = first + _DRAWN
            if last + 16 > self.num_embeddings:
                last = self.num_embeddings
            drawn = torch.empty(last - first, self.embedding_dim).normal_(0.0, std, generator=generator)
            begin, end = (min(max(at, first), last) for at in (self.begin, self.begin + len(self.shard)))
            self.shard[begin - self.begin : end - self.begin] = drawn[begin - first : end - first].to(self.shard)
            first = last

    def read_rows(self, rows: Tensor | None = None) -> Tensor:
        values = self.weight.detach()
        return values if rows is None else values[rows]

    @torch.no_grad()
    def write_rows(self, values: Tensor) -> None:
        self.shard.copy_(values[self.begin : self.begin + len(self.shard)])

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(self.num_embeddings, self.embedding_dim, self.ranks)
        made.load_state_dict(self.state_dict())
        return made


def gather_tables(model: nn.Module) -> None:
    """Replace every sharded table of a model by a full one with all rows; all ranks call it, and all have them then."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ShardedTable):
            whole = FullTable(module.num_embeddings, module.embedding_dim, device="meta")
            whole.weight = nn.Parameter(module.read_rows())
            model.set_submodule(name, whole)


def sharded_in(model: nn.Module) -> dict[str, ShardedTable]:
    """The sharded tables of a model, by the name of their parameter."""
    return {f"{name}.shard": table for name, table in model.named_modules() if isinstance(table, ShardedTable)}


class _Lookup(torch.autograd.Function):
    """Rows of distinct ids, in ascending order, from the ranks that have them."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, ids: Tensor, table: ShardedTable, ranks: Ranks) -> Tensor:
        ends = torch.searchsorted(ids, torch.as_tensor(table.bounds[1:], device=ids.device)).tolist()
        counts = np.asarray(ranks.table(*np.diff([0, *ends]).tolist()))
        asked = _received(ranks.exchange(ids, counts), ids) - table.begin
        ctx.ranks, ctx.counts, ctx.asked, ctx.rows = ranks, counts, asked, len(shard)
        return _received(ranks.exchange(shard.detach()[asked], np.ascontiguousarray(counts.T)), shard)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        arrived = _received(ctx.ranks.exchange(gradient.contiguous(), ctx.counts), gradient)
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])
        return total.index_add_(0, ctx.asked, arrived), None, None, None


class _Whole(torch.autograd.Function):
    """The rows of all ranks; the gradient is what all ranks have of this one's."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, table: ShardedTable, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.own = ranks, slice(table.begin, table.begin + len(shard))
        parts = ranks.gather(shard.detach(), np.diff(table.bounds).tolist())
        return torch.cat([_received(part, shard) for part in parts])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _received(ctx.ranks.add(gradient), gradient)[ctx.own].clone(), None, None


def _received(array: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(array, device=like.device)
